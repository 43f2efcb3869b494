#!/usr/bin/env bash
# Installs what the web tests need: Node.js with npm and Chromium (Debian packages), and playwright-core beside this
# file:   tests/web/setup.sh
# Where that cannot be done it says so and ends well: the tests then say that they are skipped.
source "$(dirname "${BASH_SOURCE[0]}")/../../tools/setup.sh"

web=$root/tests/web
missing=()
command -v node >/dev/null && command -v npm >/dev/null || missing+=(nodejs npm)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
  missing+=(chromium)
# A subshell: the web tests are not worth the end of the whole script.
[[ ${#missing[@]} -eq 0 ]] || (provide_packages "${missing[@]}") || true
if ! command -v npm >/dev/null; then
  say "Web tests will be skipped: no npm"
elif [[ ! -e $web/node_modules/playwright-core/package.json ]]; then
  (step "Installing playwright-core for the web tests" npm --prefix "$web" install --no-package-lock --no-audit --no-fund) ||
    say "Web tests will be skipped: playwright-core cannot be installed"
fi
