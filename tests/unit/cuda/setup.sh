#!/usr/bin/env bash
# Installs into .venv the compiler by which the kernels for cards are compiled when the program runs (NVRTC, in the
# package that a CUDA build of torch brings):   tests/unit/cuda/setup.sh
# Where that cannot be done it says so and ends well: the test that compiles them then says that it is skipped.
source "$(dirname "${BASH_SOURCE[0]}")/../../../tools/setup.sh"

if [[ ! -x $venv/bin/python ]]; then
  say "Kernels for cards are compiled by NVRTC where it is found: no .venv"
elif ! compgen -G "$venv/lib/python3*/site-packages/nvidia/*/lib/libnvrtc.so.*" >/dev/null; then
  # A subshell: this test is not worth the end of the whole script.
  (step "Installing NVRTC, which compiles the kernels for cards" \
    "$venv/bin/python" -m pip install --quiet "nvidia-cuda-nvrtc>=13,<14") ||
    say "The test that compiles kernels for cards will be skipped: NVRTC cannot be installed"
fi
