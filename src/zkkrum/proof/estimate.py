"""What a round will take, before anything runs: circuits, points, memory, time, sizes.

Must not know tools. Gate counts are forecasts (`zkkrum.protocol.forecast`); times are those of
the machine in docs/performance.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from zkkrum.proof.form import VK, VK_LAST, VK_SHARD, Form, why
from zkkrum.protocol import forecast as gates
from zkkrum.protocol.params import Params
from zkkrum.protocol.sizes import points_for, proof_bytes

SHARD_CORE_SECONDS = 39e-6
"""A gate of a shard on one core, witness included; cores prove different shards (measured: 17.5 µs on two)."""
CIRCUIT_CORE_SECONDS = 54e-6
"""A gate of a single circuit: cores share one proof, less well (measured: 24 to 27 µs on two)."""
WORD_SECONDS = 2e-6
"""Packing, hashing and evaluating one committed value before any proof, on one core."""
BASE_MEGABYTES = 180
"""Python, NumPy and the witness server (measured: 130 to 180)."""
VALUE_BYTES = 50
"""Of one committed value where the round is, openings to bundle, beside the rest, of which some is spare (measured, all
processes: 254 MB with 10^5 values, 826 MB with 10^7)."""
PROOF_MEGABYTES = 100
"""What one proof of 2^15 gates takes, its share of the witness server included; it grows with the points (measured)."""
COMPILE_MEGABYTES = 200
"""Compiling a 2^15 circuit, once a shape (measured: 180)."""


NAMES = {
    Form.ROUND: {VK: "round"},
    Form.SHARDED: {VK: "verdict", VK_SHARD: "shard", VK_LAST: "last shard"},
}
"""What the circuit behind each key is called."""


@dataclass(frozen=True)
class Estimate:
    """The forecast of a round.

    ``circuits``: gates by circuit; ``points`` of the reference string (64 bytes each on disk); ``megabytes``: peak of
    the process tree once the shapes are compiled, where the round is; ``worker_megabytes``: of each worker of a
    cluster, or 0; ``seconds``: from openings to bundle on ``workers``
    machines of ``cores`` cores; ``time_class``: the same in words.
    """

    form: str
    reason: str
    circuits: dict[str, int]
    proofs: int
    points: int
    workers: int
    cores: int
    megabytes: int
    worker_megabytes: int
    compile_megabytes: int
    seconds: float
    time_class: str
    proof_bytes: int


def time_class(seconds: float) -> str:
    """Say how long that is."""
    for limit, words in (
        (40, "seconds"),
        (150, "a minute or two"),
        (3000, "minutes"),
        (9000, "an hour or two"),
        (172_800, "hours"),
    ):
        if seconds <= limit:
            return words
    return "days"


def gates_within(megabytes: int) -> int:
    """Return the largest circuit one proof of which stays within so much memory (`PROOF_MEGABYTES` at 2^15).

    Examples
    --------
    >>> gates_within(100), gates_within(199) == gates_within(100), gates_within(200)
    (32700, True, 65339)
    """
    points = 2**10
    while points < 2**20 and PROOF_MEGABYTES * 2 * points / 2**15 <= megabytes:
        points *= 2
    return gates.ceiling_of(points)


def estimate(params: Params, workers: int = 1, cores: int = 2) -> Estimate:
    """Forecast a round.

    Parameters
    ----------
    params
        The round's parameters.
    workers, cores
        Machines that prove shards (a Dask cluster; one is this one), and cores of each.
    """
    form = Form.of(params)
    by_key = form.gates(params)
    circuits = {NAMES[form][key]: count for key, count in by_key.items()}
    counts = [(count, form.proofs_of(params, key)) for key, count in by_key.items()]
    points = points_for(max(circuits.values()))
    total = sum(count * times for count, times in counts)
    proofs = sum(times for _, times in counts)
    at_once = min(cores, proofs)
    alone = form is Form.ROUND  # one proof has one machine
    proving = total * (CIRCUIT_CORE_SECONDS if alone else SHARD_CORE_SECONDS) / (cores if alone else workers * cores)
    working = ceil(at_once * PROOF_MEGABYTES * points / 2**15)
    clustered = workers > 1 and not alone
    values = ceil(params.n * params.d * VALUE_BYTES / 1e6)
    seconds = proving + params.n * params.d * WORD_SECONDS
    return Estimate(
        form=form.value,
        reason=why(params),
        circuits=circuits,
        proofs=proofs,
        points=points,
        workers=1 if alone else workers,
        cores=cores,
        megabytes=BASE_MEGABYTES + values + (0 if clustered else working),
        worker_megabytes=BASE_MEGABYTES + working if clustered else 0,
        compile_megabytes=ceil(COMPILE_MEGABYTES * max(1.0, points / 2**15)),
        seconds=seconds,
        time_class=time_class(seconds),
        proof_bytes=sum(proof_bytes(points_for(count)) * times for count, times in counts),
    )
