#!/usr/bin/env bash
# Install zkkrum and run one federated round on real data, from training to the verified verdict, in a new folder.
source "$(dirname "$0")/environment.sh"
install data
if [ $# -eq 0 ]; then
    out=demo
    for ((k = 2; ; k++)); do
        [ -e "$out" ] || break
        out=demo-$k
    done
    set -- "$out"
fi
exec .venv/bin/zkkrum demo "$@"
