#!/usr/bin/env bash
# Pre-train on video games, move to musical instruments: other users, other items, only the text in common.
#   examples/games_to_instruments.sh [--small]
# RAW     folder with the raw data sets (default ../shared/data; see datasets/*/dataset.toml for where they come from)
# MODEL   text encoder: a folder, a name below models/, or a hub id (default ../shared/models/bert-tiny-splade)
# --small 3,000 users and one epoch: about a minute, shows that everything works, not how well
set -euo pipefail
cd "$(dirname "$0")/.."
RAW=${RAW:-../shared/data}
MODEL=${MODEL:-../shared/models/bert-tiny-splade}
runs=runs/games-to-instruments
pretrain=(-c configs/games-pretrain.toml)
target=(-c configs/instruments.toml)
full=(-c configs/instruments.toml -c configs/instruments-full.toml)
if [ "${1:-}" = --small ]; then
  runs=runs/games-to-instruments-small
  pretrain+=(-s data.limit_users=3000 -s train.epochs=1)
  target+=(-s data.limit_users=3000 -s train.epochs=1)
  full+=(-s data.limit_users=3000 -s train.epochs=1)
fi
cargo build --release
morec=target/release/morec

$morec data import --format recbole --interactions "$RAW/amazon-games/Games-6k.test.inter" \
  --items "$RAW/amazon-games/Games-6k.item" --out datasets/amazon-games
$morec data import --format morec --interactions "$RAW/amazon-instruments/users.tsv" \
  --items "$RAW/amazon-instruments/items.tsv" --out datasets/amazon-instruments

$morec train "${pretrain[@]}" -d datasets/amazon-games -s item.model="$MODEL" --out $runs/games --force
$morec train "${target[@]}" -d datasets/amazon-instruments -s item.kind=id --out $runs/instruments-id --force
$morec transfer "${target[@]}" --source $runs/games -d datasets/amazon-instruments \
  --preset from-scratch,frozen,zero-shot --out $runs/instruments --force
$morec transfer "${full[@]}" --source $runs/games -d datasets/amazon-instruments --preset full \
  --out $runs/instruments/full --force
$morec evaluate $runs/instruments-id $runs/instruments/{zero-shot,frozen,from-scratch,full} \
  -d datasets/amazon-instruments --baselines
$morec recommend $runs/instruments/full --title "Fender Stratocaster electric guitar" --title "Guitar strap, black leather" -k 5
