"""What proving costs, measured: gates, time, memory and sizes over a grid of rounds, as numbers and as a plot.

Must not print, and knows a round only as any user does: it commits, proves and verifies, and looks at the clock.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped, unused-ignore]

from zkkrum.errors import ReferenceStringError, ResourceError
from zkkrum.extras import require
from zkkrum.learning.simulate import client_names
from zkkrum.proof.build import build, gates, verification_key
from zkkrum.proof.form import Form
from zkkrum.proof.material import Material
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.prove import prove
from zkkrum.proof.verify import verify
from zkkrum.protocol.params import Detection, Round, Score
from zkkrum.rounds.parties import Terms, open_round
from zkkrum.rounds.updates import Update
from zkkrum.toolchain import BB_VERSION, NOIR_VERSION, Toolchain
from zkkrum.version import __version__

SAMPLE_SECONDS = 0.05
SAMPLE_IDLE = 20
"""Looking at memory takes at most one part in so many of the time that is measured."""
CLIP = 4.0
"""In standard deviations of the benchmark's updates."""
SEED = 0

ORIGINAL_GATES = {6: 4_573, 50: 105_376, 100: 403_329}
"""Gates by n at d = 2 of the original zk-Krum circuit, which holds no commitments (`bb gates`, same versions)."""


@dataclass(frozen=True)
class Shape:
    """A round to measure; ``original``: in one circuit under the original's rules, all-pairs and brackets."""

    n: int
    d: int
    b: int = 12
    original: bool = False


QUICK = (Shape(5, 60), Shape(5, 600), Shape(10, 100))
GRID = (
    *(Shape(10, d) for d in (10, 100, 300, 540, 650, 2_000, 5_000, 10_000)),
    *(Shape(10, d, b) for b in (8, 14) for d in (100, 540, 10_000)),
    *(Shape(n, 2) for n in (6, 20, 40, 49)),
    *(Shape(20, d) for d in (200, 1_000)),
    *(Shape(n, 2, 14, original=True) for n in (6, 20, 50, 100)),
)


@dataclass(frozen=True)
class Measurement:
    """What one round took.

    Parameters
    ----------
    n, d, b, chunk, score, detection, form
        The round and how it was proved.
    gates
        By circuit: its gates and how many proofs of it there are.
    seconds
        Wall time of ``commit`` (all clients), ``prove`` (all of it, the bundle verified), ``verify`` (from nothing
        but the bundle); summed over proofs: ``witness`` and ``bb``. Empty where it was only counted.
    cpu_seconds
        Processor time of proving, child processes included.
    memory
        Largest proportional set size of the whole process tree while proving, in bytes.
    proof_bytes, bundle_bytes
        Of all proofs; of the whole bundle.
    skipped
        Why it was not proved, or empty.
    """

    n: int
    d: int
    b: int
    chunk: int
    score: str
    detection: str
    form: str
    gates: dict[str, tuple[int, int]]
    seconds: dict[str, float]
    cpu_seconds: float = 0.0
    memory: int = 0
    proof_bytes: int = 0
    bundle_bytes: int = 0
    skipped: str = ""

    @property
    def values(self) -> int:
        """Committed values n·d."""
        return self.n * self.d

    @property
    def proofs(self) -> int:
        """Number of proofs."""
        return sum(count for _, count in self.gates.values())

    @property
    def total_gates(self) -> int:
        """Gates of all proofs together."""
        return sum(size * count for size, count in self.gates.values())

    @property
    def gates_per_value(self) -> float:
        """Gates per committed value, fixed parts included."""
        return self.total_gates / self.values

    @property
    def microseconds_per_value(self) -> float:
        """Proving time per committed value."""
        return self.seconds.get("prove", 0.0) / self.values * 1e6

    def to_json(self) -> dict[str, Any]:
        """Return all fields and what follows from them."""
        derived = ("values", "proofs", "total_gates", "gates_per_value", "microseconds_per_value")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


@contextlib.contextmanager
def memory_of_tree(with_this: bool = True) -> Iterator[Callable[[], int]]:
    """Sample the memory of this process, if `with_this`, and its children; give a function that returns the largest sum
    so far, in bytes.

    Shared pages count once (PSS) where the system tells, else only unshared ones (USS).
    """
    me, stop, peak = psutil.Process(), threading.Event(), 0

    def sample() -> None:
        nonlocal peak
        while not stop.is_set():
            total, started = 0, time.perf_counter()
            for process in [me] * with_this + me.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    memory = process.memory_full_info()
                    total += getattr(memory, "pss", memory.uss)
            peak = max(peak, total)
            stop.wait(max(SAMPLE_SECONDS, SAMPLE_IDLE * (time.perf_counter() - started)))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield lambda: peak
    finally:
        stop.set()
        thread.join()


def _cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def round_of(shape: Shape) -> Round:
    """Open the round of a shape."""
    rules = {"score": Score.ALL_PAIRS, "detection": Detection.BRACKETS} if shape.original else {}
    return open_round(client_names(shape.n), shape.d, CLIP, Terms(b=shape.b, overrides=dict(rules)))


def measure(shape: Shape, tools: Toolchain, folder: Path, jobs: int | None = None) -> Measurement:
    """Commit to Gaussian updates, prove and verify one round.

    Parameters
    ----------
    shape
        The round.
    tools
        Its persistent processes are ended, so that their time counts.
    folder
        Where the bundle goes.
    jobs
        Proofs at once; by default from cores and memory.

    Returns
    -------
    Measurement
        Circuits are compiled and their keys made before the clock starts: that happens once a shape.
    """
    round = round_of(shape)
    p = round.params
    form = Form.of(p)
    circuits = form.circuits(p)
    counts = {name: form.proofs_of(p, name) for name in circuits}
    built = {name: build(circuit, tools) for name, circuit in circuits.items()}
    seconds: dict[str, float] = {}
    found = Measurement(
        n=p.n,
        d=p.d,
        b=p.b,
        chunk=p.chunk,
        score=p.score.value,
        detection=p.detection.value,
        form=form.value,
        gates={f"{built[name].circuit.crate} {name}": (gates(built[name], tools), counts[name]) for name in circuits},
        seconds=seconds,
    )
    try:
        for each in built.values():
            verification_key(each, tools)
        rng = np.random.default_rng(SEED)
        updates = [Update(client, rng.normal(size=p.d), ()) for client in round.roster]
        seconds["commit"], material = _timed(
            lambda: Material.commit(round, updates, tools.bb.hash_many, by_clients=True)
        )
        tools.close()
        before = _cpu_seconds()
        with memory_of_tree() as peak:
            seconds["prove"], proved = _timed(
                lambda: prove(material, folder / "bundle", tools, ProveOptions(jobs=jobs, restart=True))
            )
        tools.close()
        cpu = _cpu_seconds() - before
        seconds |= {"witness": proved.seconds["witness"], "bb": proved.seconds["prove"]}
        seconds["verify"], checked = _timed(lambda: verify(folder / "bundle", tools, jobs=os.cpu_count() or 1))
        assert checked.ok
    except (ReferenceStringError, ResourceError) as error:
        seconds.clear()
        return replace(found, skipped=error.message)
    sizes = {path: path.stat().st_size for path in (folder / "bundle").rglob("*") if path.is_file()}
    return replace(
        found,
        cpu_seconds=cpu,
        memory=peak(),
        proof_bytes=sum(size for path, size in sizes.items() if path.name.endswith("proof")),
        bundle_bytes=sum(sizes.values()),
    )


def _timed(action: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


def machine() -> dict[str, str | int]:
    """Describe what the numbers were measured on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": os.cpu_count() or 1,
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "zkkrum": __version__,
        "noir": NOIR_VERSION,
        "bb": BB_VERSION,
    }


MARKERS = "os^Dv*PX<>"
"""One a line, so that lines can be told apart without their colours."""


def plot(measurements: Sequence[Measurement], path: Path) -> None:
    """Draw cost per committed value, growth with d and growth with n (extra ``zkkrum[plot]``).

    Raises
    ------
    ToolMissingError
        If matplotlib is not installed.
    """
    require("matplotlib", "plot").use("Agg")
    figure = _figure(measurements)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    require("matplotlib.pyplot", "plot").close(figure)


def _figure(measurements: Sequence[Measurement]) -> Any:
    plt = require("matplotlib.pyplot", "plot")
    figure, (per_value, by_d, by_n) = plt.subplots(1, 3, figsize=(15, 5.4), layout="constrained")
    _draw_growth_with_d([m for m in measurements if m.score == Score.KRUM_2017.value], per_value, by_d)
    _draw_growth_with_n([m for m in measurements if m.d == 2], by_n)
    for axes in (per_value, by_d, by_n):
        axes.grid(visible=True, which="major", alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)  # below: over no point
    return figure


def _draw_growth_with_d(ours: Sequence[Measurement], per_value: Any, by_d: Any) -> None:
    lines: dict[tuple[int, int], list[Measurement]] = {}
    for m in ours:
        lines.setdefault((m.n, m.b), []).append(m)
    several = [(of, sorted(line, key=lambda m: m.d)) for of, line in sorted(lines.items()) if len(line) > 1]
    for ((n, b), line), marker in zip(several, cycle(MARKERS), strict=False):
        label = f"n = {n}, b = {b}"
        per_value.plot([m.values for m in line], [m.gates_per_value for m in line], f"{marker}-", label=label)
        if len(proved := [m for m in line if m.seconds]) > 1:
            sizes = [m.d for m in proved]
            (proving,) = by_d.plot(sizes, [m.seconds["prove"] for m in proved], f"{marker}-", label=label)
            verifying = [m.seconds["verify"] for m in proved]
            by_d.plot(sizes, verifying, f"{marker}:", color=proving.get_color(), markerfacecolor="none")
    per_value.set(
        xscale="log", yscale="log", xlabel="committed values n·d", ylabel="gates", title="Gates per committed value"
    )
    title = "Proving (filled) and verifying (hollow), wall time"
    by_d.set(xscale="log", yscale="log", xlabel="coordinates d", ylabel="seconds", title=title)


def _draw_growth_with_n(small: Sequence[Measurement], by_n: Any) -> None:
    rules = sorted({(m.score, m.detection, m.b) for m in small})
    for (score, detection, b), marker in zip(rules, cycle(MARKERS), strict=False):
        line = sorted((m for m in small if (m.score, m.detection, m.b) == (score, detection, b)), key=lambda m: m.n)
        label = f"zkkrum, {score} + {detection}, b = {b}"
        by_n.plot([m.n for m in line], [m.total_gates for m in line], f"{marker}-", label=label)
    if small:
        label = "the original circuit, no commitments"
        by_n.plot(list(ORIGINAL_GATES), list(ORIGINAL_GATES.values()), "x--", color="gray", label=label)
    by_n.set(xlabel="clients n", ylabel="gates", yscale="log", title="Growth with n at d = 2")
