#!/bin/bash
# Everything that is measured on a graphics processor, in one command and at most eight minutes:
#
#   bench/gpu.sh --tokenizers DIR --text FILE [--depthlens PROGRAM] [--tests DIR] [--work DIR] [--out FILE]
#                [--device cuda] [--seconds 480] [--keep-going] [--parts tests,decode,llama3-8b,160m,streaming,training,pythia-6.9b,trajectory]
#
# Builds in build-gpu unless --depthlens names a program (and --tests the folder of the tests for cards, of bench_card and,
# if wanted, of reduce_tile and soften_tile made by nvcc), runs the tests for cards and stops where one fails, makes models
# of random weights in WORK, and measures depthlens and its peers in turn. The tables go to FILE as markdown for
# docs/performance.md, with the card, the driver and torch; what was said beside them goes to FILE.log. A part that fails
# or takes too long is named, and the others go on. Needs python3 with a CUDA torch, transformers and safetensors; for the
# trajectory also the package tuned-lens. `--device cpu --tiny
# --seconds 3000` tries the script, patiently, where there is no card.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3} program='' tests='' work=/tmp/depthlens-gpu out=gpu.md device=cuda total=480 tiny='' goes_on=''
tokenizers='' text='' parts=tests,decode,llama3-8b,160m,streaming,training,pythia-6.9b,trajectory
while [ $# -gt 0 ]; do
  case $1 in
    --depthlens) program=$(realpath "$2"); shift ;;
    --tests) tests=$(realpath "$2"); shift ;;
    --tokenizers) tokenizers=$(realpath "$2"); shift ;;
    --text) text=$(realpath "$2"); shift ;;
    --work) work=$2; shift ;;
    --out) out=$2; shift ;;
    --device) device=$2; shift ;;
    --seconds) total=$2; shift ;;
    --parts) parts=$2; shift ;;
    --tiny) tiny=yes ;;
    --keep-going) goes_on=yes ;;
    *) echo "gpu.sh: unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
if [ -z "$tokenizers" ] || [ -z "$text" ]; then
  echo 'gpu.sh: --tokenizers DIR and --text FILE are needed (see bench/README.md)' >&2
  exit 2
fi
mkdir -p "$work" && out=$(realpath "$out") && log=$out.log && : > "$log" || exit 1
began=$SECONDS
left() { echo $((total - (SECONDS - began))); }
say() { echo "[$((SECONDS - began)) s] $*" | tee -a "$log"; }

# part LIMIT NAME COMMAND…: what it prints goes to the tables, what it complains of to the log.
part() {
  local limit=$1 name=$2 started=$SECONDS status
  shift 2
  if [ "$(left)" -lt 15 ]; then
    say "$name: left out, no time"
    printf '\n*%s: left out, no time.*\n' "$name" >> "$out"
    return
  fi
  [ -n "$tiny" ] && limit=$((limit * 6))
  [ "$limit" -gt "$(left)" ] && limit=$(left)
  say "$name: at most $limit s"
  timeout -k 5 "$limit" "$@" > "$work/part.txt" 2>> "$log"
  status=$?
  cat "$work/part.txt" | tee -a "$log" >> "$out"
  [ $status -ne 0 ] && printf '\n*%s: status %s after %s s.*\n' "$name" $status $((SECONDS - started)) >> "$out"
  say "$name: status $status, $((SECONDS - started)) s of $limit"
}
wanted() { [[ ,$parts, == *,$1,* ]]; }
heading() { printf '\n## %s\n\n' "$1" >> "$out"; }

{
  printf '# On a graphics processor\n\n'
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | sed 's/^/- Card, driver, memory: /'
  $python -c 'import torch, transformers; print(f"- torch {torch.__version__}, transformers {transformers.__version__}")' 2>/dev/null
  sed -n 's/^model name[^:]*: /- Processor: /p' /proc/cpuinfo | head -1
  echo "- depthlens at $(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo '?'), $(date -u +%Y-%m-%d)"
} > "$out"

if [ -z "$program" ]; then
  build() {
    # Against the torch that the peers run with.
    cmake -S "$root" -B "$root/build-gpu" -G Ninja -DDEPTHLENS_TESTS=ON -DDEPTHLENS_BENCH=ON \
      -DCMAKE_PREFIX_PATH="$($python -c 'import torch; print(torch.utils.cmake_prefix_path)')" && ninja -C "$root/build-gpu"
  }
  export -f build; export root python
  part 300 build bash -c 'build >&2'
  program=$root/build-gpu/bin/depthlens
fi
[ -x "$program" ] || { say "there is no program at $program"; exit 1; }
# Without a card the tests labelled cuda pass, on a device of their own.
if [ "$device" != cpu ] && "$program" show --device "$device" 'A word' 2>&1 | grep 'no such device' >> "$log"; then
  say "the program sees no $device: $(tail -1 "$log")"
  exit 1
fi
export DEPTHLENS=$program root tests device work

# Weights are made while the tests run.
small=160m large=(llama3-8b pythia-6.9b) cutters=tiny-neox,tiny-llama
[ -n "$tiny" ] && small=tiny-neox large=(tiny-llama tiny-neox)
models=$cutters,$small
for model in "${large[@]}"; do wanted "$model" || [ -n "$tiny" ] && models+=,$model; done
(
  started=$SECONDS
  timeout 120 $python "$root/bench/make_models.py" "$work" --tokenizers "$tokenizers" --device "$device" --models "$models" 2>> "$log"
  say "models $models: status $?, $((SECONDS - started)) s"
) &
maker=$!

if wanted tests; then
  heading Tests
  run_tests() {
    if [ -z "$tests" ]; then
      OMP_NUM_THREADS=3 ctest --test-dir "$root/build-gpu" -L cuda -j 6 --timeout 90 --output-on-failure | tail -15
      return "${PIPESTATUS[0]}"
    fi
    # First the kernels alone, then the tests of the folder, which must be the ones labelled cuda, a few side by side.
    local status=0 test name
    for test in "$tests"/reduce_tile* "$tests"/soften_tile*; do
      [ -x "$test" ] || continue
      name=$(basename "$test")
      if timeout 60 "$test" check > "$work/$name.txt" 2>&1; then
        echo "- $name, beside float64: passed"
      else
        status=1
        echo "- $name, beside float64: **failed**"
        tail -20 "$work/$name.txt" >&2
      fi
    done
    # Much slower: what does not end is no fault.
    for test in "$tests"/reduce_tile* "$tests"/soften_tile*; do
      [ -x "$test" ] && command -v compute-sanitizer > /dev/null || continue
      name=$(basename "$test")
      timeout 20 compute-sanitizer --error-exitcode 99 "$test" check > "$work/$name.sanitizer.txt" 2>&1
      case $? in
        0) echo "- $name, under compute-sanitizer: passed" ;;
        124) echo "- $name, under compute-sanitizer: not at its end after 20 s" ;;
        99) status=1; echo "- $name, under compute-sanitizer: **failed**"; tail -20 "$work/$name.sanitizer.txt" >&2 ;;
        *) echo "- $name: compute-sanitizer does not run here" ;;
      esac
    done
    mkdir -p "$work/tests"
    run_test() { OMP_NUM_THREADS=3 timeout 90 "$1" > "$work/tests/$(basename "$1").txt" 2>&1; }
    for test in "$tests"/test_*; do
      while [ "$(jobs -rp | wc -l)" -ge 6 ]; do sleep 0.2; done
      run_test "$test" &
    done
    wait
    for test in "$tests"/test_*; do
      name=$(basename "$test")
      echo "- $name: $(grep -E 'All tests passed|No tests ran|assertions:' "$work/tests/$name.txt" | tail -1)"
      grep -q 'All tests passed' "$work/tests/$name.txt" && continue
      status=1
      grep -v '^$' "$work/tests/$name.txt" | tail -20 >&2
    done
    return $status
  }
  export -f run_tests
  part 160 tests bash -c run_tests
  if grep -q '^\*tests: status' "$out" && [ -z "$goes_on" ]; then
    say "the tests failed: what would be measured is another program (--keep-going measures it all the same)"
    wait $maker
    exit 1
  fi
fi
wait $maker

if wanted decode; then
  heading 'Decoding alone'
  bench=$(dirname "$program")/bench_card
  [ -n "$tests" ] && bench=$tests/bench_card
  shapes=("states=33 positions=248 d=4096 vocab=128256 type=bfloat16" "states=13 positions=630 d=768 vocab=50304 type=float32"
    "states=13 positions=630 d=768 vocab=50304 type=bfloat16" "states=27 positions=300 d=2304 vocab=256000 type=bfloat16 soft_cap=30")
  if [ "$device" = cpu ]; then
    echo '*Of cards alone (bench_card).*' >> "$out"
  else
    for shape in "${shapes[@]}"; do
      # Ends badly, too, where the card has no kernel of ours: what would be measured is another program.
      part 25 "decode, $shape" bash -c "echo '\`\`\`'; '$bench' rounds=3 device='$device' $shape; status=\$?; echo '\`\`\`'; exit \$status"
    done
  fi
fi

analyze() { $python "$root/bench/analyze.py" --device "$device" --markdown --threads "$(nproc)" --text "$text" "$@"; }
export -f analyze; export python text
few=1000 many=32000 more=16000 ways=compiled-bf16,compiled,compiled-tf32
[ -n "$tiny" ] && few=300 many=600 more=600 ways=compiled-bf16

large_model() {
  local model=$1 cutter=tiny-neox
  wanted "$model" || [ -n "$tiny" ] || return
  [[ $model == *llama* ]] && cutter=tiny-llama
  heading "The whole program, $model"
  part 150 "$model" bash -c "analyze --model '$work/$model' --list-with '$work/$cutter' --positions $more --programs exact,fast \
    --runs 1 --in-turn --ways compiled-bf16,compiled"
}
large_model "${large[0]}"
if wanted 160m; then
  heading "The whole program, $small"
  part 110 "$small" bash -c "analyze --model '$work/$small' --list-with '$work/tiny-neox' --positions $many --programs exact,fast --runs 2 \
    --ways $ways"
fi
if wanted streaming; then
  heading "Blocks read when they are needed, $small"
  streaming() {
    local way
    head -c 20000 "$text" | iconv -c -f utf-8 -t utf-8 > "$work/streamed.txt"  # which may cut a character
    for way in resident streamed; do
      "$DEPTHLENS" analyze --model "$work/$1" --device "$device" --input "$work/streamed.txt" --out "$work/$way" --overwrite \
        --records none --report no $([ $way = streamed ] && echo --stream-layers) >&2 || return
    done
    $python - "$work" << 'END'
import csv, json, sys
work = sys.argv[1]
def numbers(way):
    with open(f"{work}/{way}/tables/lens.quality.csv") as file:
        return [[float(row[key]) for key in ("kl_final", "kl_reverse", "entropy", "cross_entropy")] for row in csv.DictReader(file)]
def seconds(way):
    return json.load(open(f"{work}/{way}/run.json"))["volatile"]["seconds"]
apart = max(abs(x - y) for a, b in zip(numbers("resident"), numbers("streamed"), strict=True) for x, y in zip(a, b, strict=True))
print(f"{seconds('resident'):.1f} s, with --stream-layers {seconds('streamed'):.1f} s; means of the tables at most {apart:.1g} nats apart")
sys.exit(apart > 1e-4)
END
  }
  export -f streaming
  part 40 streaming bash -c "streaming '$small'"
fi
if wanted training; then
  heading "A step of lens training, $small"
  tokens=8192 length=2048
  [ -n "$tiny" ] && tokens=256 length=128
  part 110 training $python "$root/bench/train_lens.py" --device "$device" --markdown --threads "$(nproc)" --text "$text" \
    --model "$work/$small" --tokens $tokens --length $length --rounds 2 --ways 'autocast compiled' autocast
fi
large_model "${large[1]}"
if wanted trajectory; then
  heading "tuned-lens' trajectory, $small"
  part 60 trajectory bash -c "analyze --model '$work/$small' --positions $few --runs 1 --ways trajectory"
fi
say "tables are in $out"
