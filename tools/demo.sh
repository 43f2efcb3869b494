#!/usr/bin/env bash
# Every experiment on the bundled demo model, its lens, corpora and tasks, set-up included:   tools/demo.sh
# Leaves run folders in out/demo*, prints what the corpora show, and draws one page of all of them. Run again, it redoes
# only what changed.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
[[ $# -eq 0 ]] || stop "demo.sh takes no arguments" "Usage: tools/demo.sh"

program=$build/bin/depthlens
model=data/demo
page=out/demo-report.html
runs=()

# analyze_demo FOLDER FLAG…: one analysis into out/FOLDER, unless its results are newer than all they are made from. Where
# they are those of a part, it is gone on with.
analyze_demo() {
  local run=out/$1 how=--overwrite
  shift
  runs+=("$run")
  if [[ -e $run/summary.json && -z $(find "$program" "$model" data/corpora/*.txt data/tasks tools/demo.sh \
    -newer "$run/summary.json" -print -quit) ]]; then
    ! grep -qs '"status": "complete"' "$run/run.json" || return 0
    how=--resume
  fi
  local command=(analyze --model "$model" "$@" --out "$run" "$how")
  say "Running: build/bin/depthlens ${command[*]}"
  "$program" "${command[@]}" || stop "the analysis ended with status $?" "Its own message stands above."
}

setup
cd "$root"  # so that the run folders name their inputs by their place in the project
mkdir -p out

lenses=(--lens logit --lens "tuned:$model/lens")
inputs=()
for file in data/corpora/*.txt; do
  inputs+=(--input "$file")
done
analyze_demo demo "${lenses[@]}" "${inputs[@]}" --experiment trajectory,frequency,flips,settling,calibration
analyze_demo demo-words "${lenses[@]}" --experiment pos --input data/tasks/words.conllu
analyze_demo demo-facts "${lenses[@]}" --experiment facts,exit --input data/tasks/facts.jsonl
analyze_demo demo-choices "${lenses[@]}" --experiment choices --input data/tasks/choices.jsonl --keep all
analyze_demo demo-patching --experiment patching --input data/tasks/pairs.jsonl
python3 tools/scripts/summarise_demo.py out/demo

"$program" report --compare "${runs[@]}" --out "$page" --quiet || stop "the page was not drawn"
say
say "The pictures: $page for all experiments together, report.html in each of ${runs[*]}."
