"""LeNet-5 on chain (n = 10, d = 61,706): one round, really proved, on an EVM from the deployment to the slash.

    python scripts/lenet_on_chain.py                  shards of 2^15 gates: 80 proofs, two to ten minutes
    python scripts/lenet_on_chain.py --toy FOLDER     shards of 2^18 gates under a toy reference string in FOLDER

For 2^18 gates there must be 2^18 points. Where the real ones are at hand, name them in CRS_PATH and pass
--points 262144; else --toy measures the same circuits, proofs and verifiers under points whose secret is known
(`toy_reference_string.py`), with that secret's point exchanged in the verifiers. Such a run shows gas and time, and
proves nothing; it keeps to a cache of its own. What is measured goes into docs/onchain.json and docs/onchain.md.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from onchain import record
from toy_reference_string import second_point, write_points

from zkkrum.evm import demo
from zkkrum.proof import keys
from zkkrum.proof.shapes import LENET5
from zkkrum.protocol import forecast
from zkkrum.protocol.params import Params
from zkkrum.toolchain import Bb, Toolchain

N = 10
TOY_POINTS = 2**18
REAL_SECOND_POINT = (
    0x260E01B251F6F1C7E7FF4E580791DEE8EA51D87A358E038B4EFE30FAC09383C1,
    0x0118C4D5B837BCC2BC89B5B398B5974E9F5944073B32078B7E231FEC938883B0,
    0x04FC6369F7110FE3D25156C1BB9A72859CF2A04641F99BA4EE413C80DA6A5FE4,
    0x22FEBDA3C0C0632A56475B4214E5615E11E6DD3F96E6CEA2854A87D4DACC5E55,
)
"""What bb renders: the ceremony's secret times the generator of the second group."""


class ToyBb(Bb):
    """bb under the toy string: its verifiers get the toy's second point, and its own, which cannot, is not asked."""

    def write_solidity_verifier(self, vk: bytes, *, optimized: bool = True) -> str:
        text = super().write_solidity_verifier(vk, optimized=optimized)
        for real, toy in zip(REAL_SECOND_POINT, second_point(), strict=True):
            text, count = re.subn(f"0x0*{real:x}", f"{toy:#066x}", text)
            assert count == 1, "bb renders the second point otherwise"
        return text

    def verify(self, vk: bytes, proof: bytes, public_inputs: bytes) -> bool:
        return True


class ToyToolchain(Toolchain):
    """The tools, with the points of a folder whatever they are."""

    folder: Path

    @property
    def bb(self) -> Bb:
        return ToyBb(super().bb.path)

    def reference_string(self, points: int, *, remember: bool = True) -> Path:
        return self.folder


def toolchain(toy: Path | None) -> Toolchain:
    if toy is None:
        return Toolchain.find(notify=print)
    points = toy / "bn254_g1.dat"
    if not points.is_file():
        toy.mkdir(parents=True, exist_ok=True)
        write_points(TOY_POINTS + 1, points)
    os.environ["ZKKRUM_CACHE"] = str(toy.absolute() / "cache")
    patched: Any = keys
    patched.points_available, patched.key_table = (lambda: TOY_POINTS), dict
    tools = ToyToolchain(notify=print)
    tools.folder = toy.absolute()
    return tools


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", type=Path, metavar="FOLDER")
    parser.add_argument("--points", type=int, default=2**15)
    arguments = parser.parse_args()
    points = TOY_POINTS if arguments.toy else arguments.points
    params = Params.of(N, LENET5)
    params = replace(params, chunk=forecast.default_chunk(params, forecast.ceiling_of(points)))
    started = time.perf_counter()
    with toolchain(arguments.toy) as tools:
        life = demo.life(params, tools, byzantine=2, tell=print)
    print(f"{time.perf_counter() - started:.0f} s in all, proving included")
    proving = [step for step in life.steps if step.name.split()[0] in ("begin", "prove", "conclude") and step.gas]
    assert max(life.proving) < 2**24
    assert all(step.bytes < 128 * 1024 for step in proving)
    row = {
        "points": points,
        "toy": bool(arguments.toy),
        "n": N,
        "d": LENET5,
        "chunk": params.chunk,
        "shards": params.chunks,
        "gates": max(life.gates.values()),
        "verifiers": sum(step.gas for step in life.steps if step.name.endswith(" verifier")),
        "rounds": life.gas("deploy KrumRounds"),
        "open": life.gas("open"),
        "commit": life.gas("commit"),
        "steps": [{"name": s.name, "shards": _shards(s.name), "gas": s.gas, "bytes": s.bytes} for s in proving],
        "slash": life.gas("slash"),
    }
    record("lenet5_toy" if arguments.toy else "lenet5", [row])


def _shards(title: str) -> int:
    """Return how many shards a call proves, from its title."""
    numbers = [int(word) for word in title.split() if word.isdigit()]
    return numbers[-1] - numbers[0] + 1 if numbers else 0


if __name__ == "__main__":
    main()
