"""The key table: SHA-256 of the verification keys of common shapes, so that verifying them needs no reference string.

    python scripts/key_table.py            write src/zkkrum/proof/keys.json
    python scripts/key_table.py --check    exit 1 if the table is stale or a rebuilt key differs from it

To be written again whenever a circuit changes, a comment included: a table that does not fit the sources is not wrong,
but of no use. Needs 2^15 points of the reference string; takes about three minutes, or a second where the cache has
the keys. A unit test fails while the table is stale.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from zkkrum.proof.build import build, verification_key
from zkkrum.proof.circuit import Circuit
from zkkrum.proof.form import VK, Form
from zkkrum.proof.keys import TABLE, key_table
from zkkrum.proof.shapes import LENET5, common_circuits
from zkkrum.protocol.forecast import default_chunk
from zkkrum.protocol.params import Params
from zkkrum.toolchain import Toolchain


def samples() -> list[Circuit]:
    """Return the circuits that a check rebuilds: a small round, and what closes a sharded one."""
    small = Params.of(5, 100, 8)
    lenet = Params.of(10, LENET5, 8)
    sharded = Form.SHARDED.circuits(replace(lenet, chunk=default_chunk(lenet)))
    return [*Form.ROUND.circuits(small).values(), sharded[VK]]


def table(wanted: list[Circuit], tools: Toolchain) -> dict[str, str]:
    """Return the entries of circuits, building the keys that the cache does not have."""

    def entry(circuit: Circuit) -> tuple[str, str]:
        return circuit.key_id, hashlib.sha256(verification_key(build(circuit, tools), tools)).hexdigest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(pool.map(entry, wanted))


def stale() -> bool:
    """Tell whether the table is not the one of the current sources. Needs no tools."""
    return set(key_table()) != {circuit.key_id for circuit in common_circuits()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the table in the place of writing it")
    options = parser.parse_args()
    with Toolchain.find(notify=print) as tools:
        if not options.check:
            found = table(common_circuits(), tools)
            TABLE.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{TABLE}: {len(found)} keys")
            return 0
        shipped = key_table()
        rebuilt = table(samples(), tools)
    different = [key_id for key_id, digest in rebuilt.items() if shipped.get(key_id) != digest]
    if stale() or different:
        print(f"{TABLE} is stale: run python scripts/key_table.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
