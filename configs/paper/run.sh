#!/usr/bin/env bash
# Runs the paper's whole set for one model:   configs/paper/run.sh MODEL [FLAG…]
# MODEL is a folder beside this script, such as gpt2-xl; further flags go to every analysis (--threads 8, --device cuda,
# --overwrite). Reads paper-data/, which docs/paper.md tells how to fill, and writes out/paper/MODEL/. An experiment whose data
# are not there is skipped and named at the end; a folder that holds its results already is left as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

program=${DEPTHLENS:-build/bin/depthlens}
model=${1:-}
configs=configs/paper/$model
if [[ -z $model || ! -d $configs ]]; then
  echo "usage: configs/paper/run.sh MODEL [FLAG…], with MODEL one of: $(cd configs/paper && echo */ | tr -d /)" >&2
  exit 2
fi
shift

skipped=()
for config in "$configs"/*.toml; do
  name=$(basename "$config" .toml)
  [[ $name != train-damped ]] || continue  # takes days on a processor: by hand
  out=out/paper/$model/$name
  [[ ! -e $out/run.json ]] || continue
  missing=
  while read -r file; do
    [[ -e $file ]] || missing+=" $file"
  done < <(grep -oE '"[^"]*(paper-data|out/paper/[^"]*-lens)[^"]*"' "$config" | tr -d '"' | sed 's/.*tuned://')
  if [[ -n $missing ]]; then
    skipped+=("$name: no$missing")
    continue
  fi
  echo "== $model: $name"
  "$program" analyze --config "$config" "$@"
done
for line in "${skipped[@]}"; do
  echo "skipped $line" >&2
done
