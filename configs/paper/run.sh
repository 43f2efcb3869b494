#!/usr/bin/env bash
# Runs the paper's whole set for one model:   configs/paper/run.sh MODEL [FLAG…]
# MODEL is a folder beside this script, such as gpt2-xl; further flags go to every analysis (--threads 8, --device cuda,
# --limit 200) and must be such as all of them take: not --lens, --layers, --top-k, --decode or --watch, which patching has
# no use for. Reads paper-data/, which docs/paper.md tells how to fill, and writes out/paper/MODEL/. A folder that holds
# complete results is left as it is, unless --overwrite is among the flags; it fails where they are of other flags. An
# experiment whose data are not there is skipped; one that fails does not stop the others. Both are named at the end; the
# status is 1 where one failed.
set -euo pipefail
program=${DEPTHLENS:-build/bin/depthlens}
[[ -z ${DEPTHLENS:-} || $DEPTHLENS != */* ]] || program=$(realpath -m "$DEPTHLENS")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

model=${1:-}
configs=configs/paper/$model
if [[ -z $model || ! -d $configs ]]; then
  echo "usage: configs/paper/run.sh MODEL [FLAG…], with MODEL one of: $(cd configs/paper && echo */ | tr -d /)" >&2
  exit 2
fi
if ! command -v "$program" > /dev/null; then
  echo "no program at $program: build it (README.md), or name it in DEPTHLENS" >&2
  exit 2
fi
shift
flags=("$@")

stderr=$(mktemp)
trap 'rm -f "$stderr"' EXIT
finished=() skipped=() failed=()
report() {
  echo "== $model: ${#finished[@]} finished, ${#skipped[@]} skipped, ${#failed[@]} failed"
  printf 'skipped %s\n' "${skipped[@]+"${skipped[@]}"}" | grep -v '^skipped $' || true
  printf 'failed %s\n' "${failed[@]+"${failed[@]}"}" | grep -v '^failed $' || true
} >&2

for config in "$configs"/*.toml; do
  name=$(basename "$config" .toml)
  [[ $name != train-damped ]] || continue  # takes days on a processor: by hand
  out=out/paper/$model/$name again=() complete=
  if [[ " ${flags[*]} " != *" --overwrite "* && -d $out ]]; then
    if grep -qs '"status": "complete"' "$out/run.json"; then
      complete=1
    fi
    again=(--resume)  # an interrupted run, or one that is complete: of these flags?
  fi
  missing=
  while read -r file; do
    [[ -e $file ]] || missing+=" $file"
  done < <(grep -v '^#' "$config" | grep -oE '"[^"]*(paper-data|out/paper/[^"]*-lens)[^"]*"' | tr -d '"' | sed 's/.*tuned://')
  if [[ -n $missing ]]; then
    skipped+=("$name: no$missing")
    continue
  fi
  echo "== $model: $name" >&2
  status=0
  { "$program" analyze --config "$config" "${flags[@]}" "${again[@]}" 2>&1 >&3 | tee -i "$stderr" >&2; } 3>&1 || status=$?
  if ((status == 0)); then
    if [[ -n $complete ]]; then skipped+=("$name: $out holds its results"); else finished+=("$name"); fi
    continue
  fi
  why=$(grep '^depthlens: error: ' "$stderr" | tail -1 || true)
  failed+=("$name (status $status): ${why:-no error line, see above}")
  ((status != 130)) || { report; exit 130; }  # Ctrl-C
done
report
((${#failed[@]} == 0))
