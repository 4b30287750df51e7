#!/usr/bin/env bash
# Install what the tests need and run all of them; arguments go to pytest.
source "$(dirname "$0")/environment.sh"
install test
exec .venv/bin/python -m pytest "$@"
