#!/usr/bin/env bash
# Installs what depthlens needs to be built, and builds the program at build/bin/depthlens:   tools/setup.sh
# demo.sh and test.sh source this file and use its functions. Run again, it redoes only what changed.
#
# A libtorch that is there already is taken from CMAKE_PREFIX_PATH, Torch_DIR or Libtorch_ROOT:
#   CMAKE_PREFIX_PATH=/path/to/libtorch tools/setup.sh
set -euo pipefail

libtorch_version=2.13.0

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
build=$root/build
venv=$root/.venv
logs=$build/logs

# With CMAKE_CXX_COMPILER_LAUNCHER=ccache, a second clone finds the objects of the first.
export CCACHE_BASEDIR=$root

build_packages=(cmake ninja-build g++ pkg-config python3-venv libsentencepiece-dev libprotobuf-dev nlohmann-json3-dev
  libcli11-dev libspdlog-dev libpcre2-dev libutf8proc-dev libssl-dev libcurl4-openssl-dev zlib1g-dev liblzma-dev
  libzstd-dev libtomlplusplus-dev catch2)
test_packages=(clang-format xz-utils)

say() { printf '%s\n' "$*"; }

# stop WHAT [HINT…]: ends the script with a message; every hint gets a line.
stop() {
  printf '%s: error: %s\n' "$(basename "$0")" "$1" >&2
  shift
  [[ $# -eq 0 ]] || printf '  %s\n' "$@" >&2
  exit 1
}

# step WORDS COMMAND…: runs a command in silence and prints how long it took. Where it fails, the end of its log is
# shown and the script ends with the words in $on_failure. The command runs without `set -e`: functions chain with &&.
on_failure=
step() {
  local words=$1 started=$SECONDS log
  shift
  mkdir -p "$logs"
  log=$(tr -cs '[:alnum:].\n' '-' <<<"$words")
  log=$logs/${log:0:40}.log
  printf '%s … ' "$words"
  if "$@" >"$log" 2>&1 </dev/null; then
    printf '%d s\n' $((SECONDS - started))
  else
    printf 'failed after %d s\n' $((SECONDS - started))
    tail -n 40 "$log" >&2
    stop "this step failed: $words" "The whole log: $log" ${on_failure:+"$on_failure"} \
      "Run the same command again when the cause is gone; finished steps are not repeated."
  fi
}

# provide_packages NAME…: installs the Debian packages that are missing. Where that cannot be done it says so and goes
# on: the libraries may have come by another way, and CMake names the one that is really missing.
provide_packages() {
  local missing=() name as_root=()
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    [[ -e $build/build.ninja ]] || say "No apt on this system. Needed, under the names that Debian gives them: $*"
    return
  fi
  for name in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0

  if [[ $(id -u) -ne 0 ]]; then
    # sudo may ask for a password, which needs a terminal.
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [[ -t 0 ]] && sudo -v; }; }; then
      as_root=(sudo)
    else
      say "Not installed, for want of root or sudo: ${missing[*]}"
      say "  As root: apt-get update && apt-get install ${missing[*]}"
      return
    fi
  fi
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  on_failure="It needs a network, and package lists with these packages (Debian 12 or newer has them all)."
  # One unreachable source fails the update, yet the packages may be had from the others: the install decides.
  step "Refreshing the package lists" bash -c '"$@" || echo "apt-get update ended with status $?"' - "${apt[@]}" update
  step "Installing ${missing[*]}" "${apt[@]}" install --no-install-recommends "${missing[@]}"
  on_failure=
}

# Sets libtorch_marker to the folder of TorchConfig.cmake, by which cmake/FindLibtorch.cmake knows the place: the one
# that the environment names, else the one that build/ was configured with.
find_given_libtorch() {
  local place places
  IFS=: read -r -a places <<<"${Libtorch_ROOT:-}:${CMAKE_PREFIX_PATH:-}"
  places=("${places[@]/%//share/cmake/Torch}" "${Torch_DIR:-}")
  if [[ -e $build/CMakeCache.txt ]]; then
    places+=("$(sed -n 's/^Libtorch_MARKER:[A-Z]*=//p' "$build/CMakeCache.txt")")
  fi
  for place in "${places[@]}"; do
    if [[ -e $place/TorchConfig.cmake && $place != "$venv"/* ]]; then
      libtorch_marker=$(cd "$place" && pwd -P)
      return 0
    fi
  done
  return 1
}

# The wheel's Python dependencies are of no use here, but the libraries that a CUDA wheel brings as such are.
install_wheel() {
  local pip=("$venv/bin/python" -m pip install --quiet)
  "${pip[@]}" --no-deps "torch==$libtorch_version" &&
    if compgen -G "$venv/lib/python3*/site-packages/torch/lib/libtorch_cuda.so" >/dev/null; then
      "${pip[@]}" "torch==$libtorch_version"
    fi
}

# provide_libtorch: a virtual environment in .venv with the torch wheel, unless a libtorch is given.
provide_libtorch() {
  local finished=$venv/depthlens-torch-$libtorch_version unfinished=$venv/depthlens-unfinished
  ! find_given_libtorch || return 0
  if [[ -e $finished ]]; then
    find_own_libtorch
    return
  fi
  if [[ ! -x $venv/bin/python || -e $unfinished ]]; then
    on_failure="On Debian and Ubuntu the package python3-venv is needed; or make it yourself: virtualenv '$venv'"
    step "Making a Python environment in .venv" python3 -m venv --clear "$venv"
    touch "$unfinished"
  fi
  on_failure="Or give a libtorch that you have: CMAKE_PREFIX_PATH=/path/to/libtorch $0"
  step "Installing libtorch $libtorch_version into .venv (a large download, this can take minutes)" install_wheel
  on_failure=
  touch "$finished"
  rm -f "$unfinished"
  find_own_libtorch
}

find_own_libtorch() {
  libtorch_marker=$(compgen -G "$venv/lib/python3*/site-packages/torch/share/cmake/Torch" | head -n 1)
}

# configure FOLDER [CMAKE-ARGUMENT…]: only where the folder is not configured yet, or arguments are given that it does
# not have; ninja itself notices changed CMake files.
configure() {
  local folder=$1 argument cache=$1/CMakeCache.txt needed= fresh=()
  shift
  set -- "Libtorch_MARKER=$libtorch_marker" "$@"
  [[ -e $folder/build.ninja ]] || needed=1
  if [[ -e $cache ]] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$cache"; then
    needed=1 fresh=(--fresh)  # the tree was moved
  fi
  for argument in "$@"; do
    [[ -e $cache && $(sed -n "s/^${argument%%=*}:[A-Z]*=//p" "$cache") == "${argument#*=}" ]] || needed=1
  done
  [[ -n $needed ]] || return 0

  on_failure="A library that CMake does not find is installed as root by: apt-get install ${build_packages[*]}"
  step "Configuring $(basename "$folder")/" \
    cmake "${fresh[@]}" -S "$root" -B "$folder" -G Ninja "${@/#/-D}"
  on_failure=
}

# One compiler for every processor, but no more than memory allows: a file that includes libtorch takes about 1.2 GB.
parallel_jobs() {
  local jobs available limit
  jobs=$(nproc)
  available=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo 2>/dev/null || true)
  limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || true)
  if [[ $limit =~ ^[0-9]+$ ]] && ((limit / 1048576 < ${available:-1048576})); then
    available=$((limit / 1048576))
  fi
  if [[ -n $available ]] && ((available / 1200 < jobs)); then
    jobs=$((available / 1200))
  fi
  echo $((jobs > 0 ? jobs : 1))
}

# build FOLDER [TARGET…]
build() {
  local folder=$1 words
  shift
  words="Building in $(basename "$folder")/"
  [[ -e $folder/.ninja_log ]] || words+=" (the first time this takes minutes)"
  on_failure="If the compiler was killed, memory ran out: close other programs, or run: ninja -j1 -C '$folder'"
  step "$words" ninja -C "$folder" -j "$(parallel_jobs)" "$@"
  on_failure=
}

# setup [NAME…]: everything up to the built program; names are further Debian packages to install. A new build folder
# compiles several files in one, which takes less than half of the time; one that is there stays as it is.
setup() {
  local at_once=()
  provide_packages "${build_packages[@]}" "$@"
  provide_libtorch
  [[ -e $build/build.ninja ]] || at_once=(CMAKE_UNITY_BUILD=ON)
  configure "$build" "${at_once[@]}"
  build "$build" depthlens
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  [[ $# -eq 0 ]] || stop "setup.sh takes no arguments" "Usage: tools/setup.sh"
  setup
  say "The program: $build/bin/depthlens"
fi
