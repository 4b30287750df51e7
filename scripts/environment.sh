# Sourced by demo.sh and test.sh: a virtual environment of their own, and Node.js where the machine has none.
# Needs Python >= 3.10 and, the first time, a package index.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { echo "$*" >&2; exit 4; }

find_python() {
    local name
    for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.10 python; do
        [ -n "$name" ] && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo "$name" && return
    done
    die "expected Python >= 3.10 on the PATH; set PYTHON to one"
}

# install EXTRAS: zkkrum with these extras in .venv; nothing happens if the project has not changed since.
install() {
    local extras=$1 stamp
    node --version 2>/dev/null | grep -Eq '^v(2[0-9]|[3-9][0-9])\.' || extras="$extras,node"
    [ -x .venv/bin/python ] || "$(find_python)" -m venv .venv || die "cannot create .venv (on Debian: install python3-venv)"
    stamp=".venv/$(cat pyproject.toml <(echo "$extras") | cksum | tr -d ' ').installed"
    if [ ! -e "$stamp" ]; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
        touch "$stamp"
    fi
}

# The reference string: CRS_PATH, else shared/crs beside the checkout, else what bb has cached or downloads.
if [ -z "${CRS_PATH:-}" ] && [ -f ../shared/crs/bn254_g1.dat ]; then
    CRS_PATH=$(cd ../shared/crs && pwd)
    export CRS_PATH
fi
