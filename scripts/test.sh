#!/usr/bin/env bash
# Install what the tests need and run all of them: lint, format, types, walls, then the tests and the doctests.
# With arguments, only pytest runs, and they go to it.
source "$(dirname "$0")/environment.sh"
install test
# One test looks at a report in a real browser.
if ! command -v chromium chromium-browser google-chrome >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium; } >/dev/null ||
        echo "chromium could not be installed" >&2
fi
if [ $# -eq 0 ]; then
    .venv/bin/ruff check
    .venv/bin/ruff format --check
    .venv/bin/mypy
    .venv/bin/lint-imports
fi
exec .venv/bin/python -m pytest "$@"
