#!/usr/bin/env bash
# Builds depthlens and its tests and runs them all:   tools/test.sh [--sanitize]
# --sanitize builds a second time, in build-asan/, and runs the unit and golden tests under the address and
# undefined-behaviour sanitizers. With CI set, warnings are errors, and the program is compiled several files in one.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

sanitize=
for argument in "$@"; do
  case $argument in
    --sanitize) sanitize=1 ;;
    *) stop "unknown argument '$argument'" "Usage: tools/test.sh [--sanitize]" ;;
  esac
done

# Other versions of clang-format lay the same style out differently.
clang_format_major=14
check_format() {
  local program=
  for program in "clang-format-$clang_format_major" clang-format ""; do
    [[ -z $program ]] || ! "$program" --version 2>/dev/null | grep -q "version $clang_format_major\." || break
  done
  if [[ -z $program ]]; then
    say "Format check skipped: no clang-format of version $clang_format_major"
    return
  fi
  on_failure="clang-format -i FILE mends it."
  step "Checking the format of the sources" find "$root/include" "$root/src" "$root/tools" "$root/tests" \
    \( -name '*.hpp' -o -name '*.cpp' -o -name '*.cu' \) -exec "$program" --dry-run -Werror {} +
  on_failure=
}

# run_tests FOLDER [CTEST-ARGUMENT…]
run_tests() {
  local folder=$1
  shift
  # One more than there are processors: some tests wait most of their time.
  ctest --test-dir "$folder" --output-on-failure --no-tests=error -j "$(($(nproc) + 1))" "$@"
}

# What nvcc says of the kernels for cards, where there is one.
tell_registers() {
  local log=$1/Testing/Temporary/LastTest.log
  if grep -q 'ptxas info.*registers' "$log" 2>/dev/null; then
    say "Registers and spills of the kernels for cards:"
    grep -hE "Compiling entry function|spill|Used .* registers" "$log" | sed -E "s/ptxas info *: *//; s/^ +/  /"
  fi
}

provide_packages "${build_packages[@]}" "${test_packages[@]}"
provide_libtorch
warnings=() at_once=()
if [[ -n ${CI:-} ]]; then
  warnings=(DEPTHLENS_WERROR=ON) at_once=(CMAKE_UNITY_BUILD=ON)
fi
configure "$build" DEPTHLENS_TESTS=ON "${warnings[@]}" "${at_once[@]}"
build "$build"
"$root/tests/web/setup.sh"
"$root/tests/cluster/setup.sh"
"$root/tests/python/setup.sh"
"$root/tests/unit/cuda/setup.sh"
run_tests "$build"
tell_registers "$build"
check_format

if [[ -n $sanitize ]]; then
  asan=$root/build-asan
  # Line numbers in reports at little cost; with full debug information the files that include libtorch grow tenfold.
  # Files must compile by what they include themselves.
  configure "$asan" DEPTHLENS_TESTS=ON CMAKE_BUILD_TYPE=None CMAKE_CXX_FLAGS="-O1 -g1" \
    DEPTHLENS_SANITIZE=address,undefined DEPTHLENS_PRECOMPILE=OFF "${warnings[@]}"
  build "$asan"
  run_tests "$asan" -L 'unit|golden'
fi
