#!/usr/bin/env bash
# Runs one file of the Python package's tests:   tests/python/run.sh FILE PROGRAM
# By the Python that DEPTHLENS_TEST_PYTHON names, else the project's own where it has pandas, else that of PATH.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$here/../..
python=${DEPTHLENS_TEST_PYTHON:-}
if [[ -z $python ]]; then
  python=$root/.venv/bin/python
  "$python" -c 'import pandas' 2>/dev/null || python=python3
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
  echo "skipped: no Python 3.9 or newer"
  exit 77
fi
export DEPTHLENS_PROGRAM=$2 PYTHONPATH=$root/python PYTHONDONTWRITEBYTECODE=1
exec "$python" "$here/$1" -v
