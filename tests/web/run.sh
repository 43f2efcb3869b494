#!/usr/bin/env bash
# Runs the web tests:   run.sh PROGRAM FOLDER      (77: skipped, for want of something)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

skip() {
  echo "skipped: $*; tests/web/setup.sh installs what is needed"
  exit 77
}

command -v node >/dev/null || skip "no Node.js"
[[ -e $here/node_modules/playwright-core/package.json ]] || skip "no playwright-core in tests/web/node_modules"
browser=
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then
    browser=$(command -v "$name")
    break
  fi
done
[[ -n $browser ]] || skip "no Chromium"
exec node "$here/report_test.mjs" "$1" "$2" "$browser"
