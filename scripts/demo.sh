#!/usr/bin/env bash
# Install zkkrum and run one federated round on real data, from training to the verified verdict.
source "$(dirname "$0")/environment.sh"
install data
if [ $# -eq 0 ]; then
    rm -rf demo # a round that this script made before
fi
exec .venv/bin/zkkrum demo "$@"
