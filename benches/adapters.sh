#!/bin/bash
# Every adapter beside full fine-tuning, frozen features and training from scratch: games → instruments with two text encoders,
# movies90s → moviesnew with posters, and with titles and posters (side towers only).
#   benches/adapters.sh          after examples/games_to_instruments.sh and benches/movies.sh, which make data sets and sources
# MODELS  folder with bert-tiny-splade and all-minilm-l6-v2 (default ../shared/models, target/models)
# PARTS="tiny minilm image both"  SEEDS="1 2 3" of the main methods  FULL=1 trains MiniLM end to end, too (half an hour a seed)
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release
morec=${MOREC:-target/release/morec}
out=runs/adapters
mkdir -p $out
adapters="side houlsby pfeiffer parallel compacter lora ia3 prompt kadapter"
main="side houlsby lora full frozen from-scratch"

# name, then the arguments of a transfer
run() {
  local name=$out/$1
  shift
  [ -f "$name/result.json" ] || $morec transfer "$@" --out "$name" --force --json > "$name.json" 2> "$name.log"
}
# part, source, target, target's settings; reads `width`, `last`, `more`, and `end` and `scratch` (settings of end-to-end training)
part() {
  local p=$1 source=$2 data=$3 settings=$4
  for seed in ${SEEDS:-1 2 3}; do
    from=${source//SEED/$seed}
    common=(--source "$from" -d "$data" -c "$settings" -s "seed=$seed")
    for m in $adapters; do
      # title-mini and cover-mini differ in depth: `adapter.layers` has no one meaning for both.
      [ "$p" = both ] && [ "$m" != side ] && continue
      case " $main " in *" $m "*) ;; *) [ "$seed" = 1 ] || continue ;; esac
      # Side towers are cheap.
      epochs=$([ "$m" = side ] && echo "-s train.epochs=20" || true)
      # shellcheck disable=SC2086
      run "$p-$m-$seed" "${common[@]}" -c configs/adapters.toml $width $more $epochs $([[ " side kadapter " == *" $m "* ]] || echo $last) --preset $m
    done
    if [ "$seed" = 1 ] && [ "$p" != both ]; then
      # Nothing else trains in these.
      alone="-s train.epochs=10 -s train.patience=5 -s train.lr=5e-3 -s train.encoder_lr=5e-3 -s item.image.lr=5e-3"
      # shellcheck disable=SC2086
      run "$p-houlsby-only-1" "${common[@]}" $width $last $more $alone --preset houlsby
      for m in bitfit norms; do
        # shellcheck disable=SC2086
        run "$p-$m-1" "${common[@]}" $more $alone $upper --preset $m
      done
    fi
    case $p in image | both) continue ;; esac # benches/movies.sh has the other rows
    # shellcheck disable=SC2086
    run "$p-frozen-$seed" "${common[@]}" $more --preset frozen
    [ "$p" = minilm ] && [ -z "${FULL:-}" ] && continue
    # shellcheck disable=SC2086
    run "$p-from-scratch-$seed" "${common[@]}" $more $scratch --preset from-scratch
    # shellcheck disable=SC2086
    run "$p-full-$seed" "${common[@]}" $more $end --preset full
  done
}

for p in ${PARTS:-tiny minilm image both}; do
  width="" last="" more="" end="" scratch="" upper=""
  case $p in
    tiny)
      width="-s adapter.width=16" end="-c configs/instruments-full.toml"
      part tiny runs/games-to-instruments/games datasets/amazon-instruments configs/instruments.toml
      ;;
    minilm)
      # The source: the last two blocks and all above; what is below runs once an item.
      [ -f $out/games-minilm/result.json ] || $morec train -c configs/games-pretrain.toml -d datasets/amazon-games \
        -s item.model="${MODELS:-target/models}/all-minilm-l6-v2" -s item.train_layers=2 -s train.epochs=3 \
        -s train.encoder_lr=1e-4 --out $out/games-minilm --force
      more="-s item.train_layers=-1"
      # In the last block only: what is below runs once an item.
      last="-s adapter.layers=1"
      upper="--rule item_encoder.text.model.embeddings.*=freeze"
      for i in 0 1 2 3 4; do upper="$upper --rule item_encoder.text.model.encoder.layer.$i.*=freeze"; done
      end="-s train.encoder_lr=2e-4 -s train.epochs=8" scratch=$end
      part minilm $out/games-minilm datasets/amazon-instruments configs/instruments.toml
      ;;
    image | both)
      more="-s item.kind=$p" width="-s adapter.width=16"
      # In the last two blocks of six, as the other rows train.
      last="-s adapter.layers=2"
      upper="--rule item_encoder.image.model.embeddings.*=freeze"
      for i in 0 1 2 3; do upper="$upper --rule item_encoder.image.model.encoder.layer.$i.*=freeze"; done
      part "$p" runs/movies/$p-source-SEED datasets/ninerec-moviesnew configs/movies.toml
      ;;
  esac
done

python3 - $out <<'EOP'
import glob, json, os, re, statistics as st, sys
out = sys.argv[1]
order = "full frozen from-scratch side houlsby pfeiffer parallel compacter lora ia3 prompt kadapter houlsby-only bitfit norms".split()
for part in ["tiny", "minilm", "image", "both"]:
    print(f"\n{part:14} {'HR@10':>13} {'NDCG@10':>13} {'trained':>9} {'%':>6} {'file':>8} {'epochs':>12} {'s/epoch':>8} {'s':>5} {'MB':>5}")
    for m in order:
        files = sorted(glob.glob(f"{out}/{part}-{m}-[0-9]/result.json") or glob.glob(f"runs/movies/{part}-{m}-[0-9]/result.json"))
        runs = [json.load(open(f)) for f in files]
        if not runs:
            continue
        of = lambda k: [100 * r["test"]["all"][k] for r in runs]
        show = lambda v: f"{st.mean(v):.2f}" + (f" ± {st.stdev(v):.2f}" if len(v) > 1 else "")
        n, all_ = runs[0]["parameters"]
        print(f"{m:14} {show(of('hr@10')):>13} {show(of('ndcg@10')):>13} {n:9} {100 * n / all_:6.2f} "
              f"{(runs[0].get('model_bytes') or 0) / 1e6:7.2f}M {str([r['epochs'] for r in runs]):>12} "
              f"{st.median(r['epoch_seconds'] or 0 for r in runs):8.2f} {st.median(r['seconds'] for r in runs):5.0f} "
              f"{max(r['peak_memory'] or 0 for r in runs) / 1e6:5.0f}")
EOP
# Paired tests over the same users, means over the seeds.
for p in ${PARTS:-tiny minilm image both}; do
  methods=()
  for m in full frozen from-scratch side houlsby lora; do
    list=$(find $out runs/movies -maxdepth 1 -name "$p-$m-[0-9]" -exec test -f {}/result.json \; -print | sort | paste -sd,)
    [ -z "$list" ] || methods+=("$m=$list")
  done
  [ ${#methods[@]} -lt 2 ] || for metric in hr@10 ndcg@10; do $morec compare --metric $metric "${methods[@]}"; done
done
