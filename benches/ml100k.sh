#!/bin/bash
# Each user encoder on MovieLens-100K with IDs: the settings of the peers in peer/ml100k.py, three seeds.
#   benches/ml100k.sh DATA/ml-100k.inter      prints the means; runs/ml100k/ keeps the runs
set -euo pipefail
raw=$(realpath "$1")
cd "$(dirname "$0")/.."
cargo build --release
morec=target/release/morec
out=runs/ml100k
mkdir -p $out
[ -d datasets/ml-100k ] || $morec data import --format recbole --interactions "$raw" --out datasets/ml-100k
common=(-s data.split=leave-one-out -s data.min_user_items=1 -s item.kind=id -s user.dim=64 -s user.layers=2 -s user.heads=2
  -s user.max_len=50 -s user.dropout=0.2 -s objective.kind=full -s train.lr=1e-3 -s train.weight_decay=0
  -s train.checkpoint_steps=0)
# 10 windows of 50 events are as many predictions a step as the peers' 512 prefixes, 40 as their 2,048.
whole="-s train.windows=all -s train.patience=5"
declare -A settings=(
  [sasrec]="-s user.norm=original -s train.batch_size=128 -s train.epochs=100 -s train.patience=0"
  [bert4rec]="-s user.kind=bert4rec -s user.norm=pre -s objective.mask_share=0.15 -s train.batch_size=128
    -s train.epochs=300 -s train.eval_every=5 -s train.patience=0"
  [bert4rec-dropout]="-s user.kind=bert4rec -s user.norm=pre -s objective.mask_share=0.15 -s train.batch_size=128
    -s train.epochs=300 -s train.eval_every=10 -s train.patience=0 -s user.dropout=0.3"
  [gru4rec]="-s user.kind=gru4rec $whole -s train.batch_size=10 -s train.epochs=25"
  [nextitnet]="-s user.kind=nextitnet -s user.layers=4 -s user.dropout=0 $whole -s train.batch_size=10 -s train.epochs=12"
  [caser]="-s user.kind=caser -s user.window=5 -s user.horizontal=8 -s user.user_id=true -s user.dropout=0.4 $whole
    -s train.batch_size=40 -s train.epochs=30"
)
for kind in sasrec bert4rec bert4rec-dropout gru4rec nextitnet caser; do
  for seed in 1 2 3; do
    # shellcheck disable=SC2086
    $morec train -d datasets/ml-100k "${common[@]}" ${settings[$kind]} -s seed=$seed -o $out/$kind-$seed --force --json \
      > $out/$kind-$seed.json 2> $out/$kind-$seed.log
  done
done
python3 - $out <<'EOF'
import json, statistics as st, sys
for kind in ["sasrec", "bert4rec", "bert4rec-dropout", "gru4rec", "nextitnet", "caser"]:
    runs = [json.load(open(f"{sys.argv[1]}/{kind}-{s}.json")) for s in (1, 2, 3)]
    of = lambda m: [r["test"]["all"][m] for r in runs]
    show = lambda v: f"{st.mean(v):.4f} ± {st.stdev(v):.4f}"
    seconds = st.median(r["epoch_seconds"] for r in runs)
    print(f"{kind:16} HR@10 {show(of('hr@10'))}  NDCG@10 {show(of('ndcg@10'))}  {seconds:.3f} s an epoch,",
          f"epochs {[r['epochs'] for r in runs]}")
EOF
