#!/usr/bin/env bash
# The main job on the bundled demo model, its lens and corpora, set-up included:   tools/demo.sh
# Leaves a run folder in out/demo and prints what it shows. Run again, it redoes only what changed.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
[[ $# -eq 0 ]] || stop "demo.sh takes no arguments" "Usage: tools/demo.sh"

program=$build/bin/depthlens
model=data/demo
run=out/demo

setup
cd "$root"  # so that the run folder names its inputs by their place in the project

if [[ ! -e $run/summary.json ||
  -n $(find "$program" "$model" data/corpora/*.txt -newer "$run/summary.json" -print -quit) ]]; then
  inputs=()
  for file in data/corpora/*.txt; do
    inputs+=(--input "$file")
  done
  mkdir -p out
  lenses=(--lens logit --lens "tuned:$model/lens")
  say "Running: build/bin/depthlens analyze --model $model ${inputs[*]} ${lenses[*]} --out $run --overwrite"
  "$program" analyze --model "$model" "${inputs[@]}" "${lenses[@]}" --out "$run" --overwrite ||
    stop "the analysis ended with status $?" "Its own message stands above."
fi
python3 tools/scripts/summarise_demo.py "$run"
