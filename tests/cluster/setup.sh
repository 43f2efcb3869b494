#!/usr/bin/env bash
# Installs what the cluster tests need: Slurm and munge (Debian packages), and into .venv the Python packages without
# which its torchrun does not start:   tests/cluster/setup.sh
# Where that cannot be done it says so and ends well: the tests then say that they are skipped.
source "$(dirname "${BASH_SOURCE[0]}")/../../tools/setup.sh"

# A subshell: the cluster tests are not worth the end of the whole script.
command -v sbatch >/dev/null || (provide_packages slurm-wlm munge) || true
command -v sbatch >/dev/null || say "Slurm tests will be skipped: no sbatch"

if [[ ! -x $venv/bin/torchrun ]]; then
  command -v torchrun >/dev/null || say "torchrun tests will be skipped: no torchrun"
elif ! "$venv/bin/python" -c 'import numpy, typing_extensions' 2>/dev/null; then
  (step "Installing what torchrun needs for the cluster tests" \
    "$venv/bin/python" -m pip install --quiet numpy typing_extensions) ||
    say "torchrun tests will be skipped: its Python packages cannot be installed"
fi
