#!/usr/bin/env bash
# Installs into .venv what some tests of the Python package need:   tests/python/setup.sh
# Where that cannot be done it says so and ends well: those tests then say that they are skipped.
source "$(dirname "${BASH_SOURCE[0]}")/../../tools/setup.sh"

if [[ ! -x $venv/bin/python ]]; then
  say "Tests of data frames use python3: no .venv"
elif ! "$venv/bin/python" -c 'import matplotlib, pandas, zstandard' 2>/dev/null; then
  # A subshell: these tests are not worth the end of the whole script.
  (step "Installing what the tests of the Python package need" \
    "$venv/bin/python" -m pip install --quiet matplotlib pandas zstandard) ||
    say "Tests of data frames will be skipped: pandas cannot be installed"
fi
