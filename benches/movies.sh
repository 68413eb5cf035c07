#!/bin/bash
# movies90s → moviesnew with IDs, titles, posters, both, and each item one of the two: three seeds, mean and significance.
#   benches/movies.sh DATA      DATA holds ninerec-movies90s and ninerec-moviesnew; runs/movies/ keeps the runs
#   SEEDS="1 2 3"  KINDS="id text image both mixture"
set -euo pipefail
raw=$(realpath "$1")
cd "$(dirname "$0")/.."
cargo build --release
morec=target/release/morec
out=runs/movies
mkdir -p $out
for name in movies90s moviesnew; do
  $morec data import --format ninerec "$raw/ninerec-$name" --pair-columns user,item,timestamp --out datasets/ninerec-$name
done
common=(-c configs/movies.toml)
declare -A kind=(
  [id]="-s item.kind=id"
  [text]="-s item.kind=text"
  [image]="-s item.kind=image"
  [both]="-s item.kind=both"
  [mixture]="-s item.kind=both -s item.fusion=mixture"
)
for seed in ${SEEDS:-1 2 3}; do
  for k in ${KINDS:-id text image both mixture}; do
    # shellcheck disable=SC2086
    run() { # name, command and its arguments
      local name=$out/$1-$seed
      shift
      [ -f "$name/result.json" ] || "$morec" "$@" "${common[@]}" ${kind[$k]} -s seed=$seed --out "$name" --force --json \
        > "$name.json" 2> "$name.log"
    }
    if [ "$k" = id ]; then
      # A table has no source to come from; its user encoder has.
      run id-source train -d datasets/ninerec-movies90s
      run id-from-scratch train -d datasets/ninerec-moviesnew
      run id-full transfer --source $out/id-source-$seed -d datasets/ninerec-moviesnew --preset full
      continue
    fi
    run $k-source train -d datasets/ninerec-movies90s
    for preset in from-scratch full frozen; do
      run $k-$preset transfer --source $out/$k-source-$seed -d datasets/ninerec-moviesnew --preset $preset
    done
  done
done
python3 - $out "${SEEDS:-1 2 3}" <<'EOF'
import json, os, statistics as st, sys
out, seeds = sys.argv[1], sys.argv[2].split()
print(f"{'method':22} {'HR@10':>14} {'NDCG@10':>14} {'s/epoch':>8} {'epochs':>9} {'MB':>6}")
for k in ["id", "text", "image", "both", "mixture"]:
    for p in ["source", "from-scratch", "full", "frozen"]:
        files = [f"{out}/{k}-{p}-{s}/result.json" for s in seeds]
        runs = [json.load(open(f)) for f in files if os.path.exists(f)]
        if not runs:
            continue
        of = lambda m: [100 * r["test"]["all"][m] for r in runs]
        show = lambda v: f"{st.mean(v):5.2f} ± {st.stdev(v) if len(v) > 1 else 0:4.2f}"
        cost = st.median(r["epoch_seconds"] or 0 for r in runs)
        memory = max(r["peak_memory"] or 0 for r in runs) / 1e6
        print(f"{k + ' ' + p:22} {show(of('hr@10')):>14} {show(of('ndcg@10')):>14} {cost:8.2f} "
              f"{str([r['epochs'] for r in runs]):>9} {memory:6.0f}")
EOF
# LABEL=RUN,RUN,… of what there is.
method() {
  local runs=()
  for s in ${SEEDS:-1 2 3}; do [ -f "$out/$2-$s/result.json" ] && runs+=("$out/$2-$s"); done
  [ ${#runs[@]} = 0 ] || (IFS=,; echo "$1=${runs[*]}")
}
side_by_side() { # metric, then LABEL NAME pairs
  local metric=$1 methods=()
  shift
  while [ $# -gt 0 ]; do mapfile -t -O ${#methods[@]} methods < <(method "$1" "$2"); shift 2; done
  [ ${#methods[@]} -lt 2 ] || $morec compare --metric "$metric" "${methods[@]}"
}
for metric in hr@10 ndcg@10; do
  side_by_side $metric text-full text-full text-scratch text-from-scratch id id-from-scratch image-full image-full \
    both-full both-full mixture-full mixture-full
  for k in text image both mixture; do
    side_by_side $metric $k-scratch $k-from-scratch $k-full $k-full $k-frozen $k-frozen
  done
done
