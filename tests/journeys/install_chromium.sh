#!/usr/bin/env bash
# Install Chromium for the browser tests when it is missing and the system's package
# manager can do it. Never fails: without it those tests are skipped, and say so.
set -uo pipefail
for name in chromium-headless-shell chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null 2>&1 && exit 0
done
[ -n "${CHROMIUM:-}" ] && exit 0
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1"; }
echo "greenroom: Chromium is missing; asking the package manager for it"
if command -v apt-get >/dev/null 2>&1; then
  # The form without a window does the same in less time; where there is none, the whole browser.
  { as_root apt-get update -qq && { install chromium-headless-shell || install chromium; }; } >/dev/null 2>&1
elif command -v dnf >/dev/null 2>&1; then
  as_root dnf install -y -q chromium >/dev/null 2>&1
elif command -v brew >/dev/null 2>&1; then
  brew install --quiet --cask chromium >/dev/null 2>&1
fi
command -v chromium-headless-shell chromium chromium-browser >/dev/null 2>&1 ||
  echo "greenroom: Chromium could not be installed; THE BROWSER TESTS WILL BE SKIPPED"
exit 0
