"""`zkkrum demo`: one federated round on real data, from training to the verified verdict.

Only arranges what other commands do, prints and exits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import click
import numpy as np

from zkkrum.cli.console import AT_LEAST_ONE, NOT_NEGATIVE, folder, json_option, print_json, progress_bar, say, tell
from zkkrum.cli.prove import print_proved, warn
from zkkrum.cli.runs import print_audit
from zkkrum.cli.verify import print_verification
from zkkrum.errors import EXIT_INVALID, InputError, ReferenceStringError
from zkkrum.files import refuse_full
from zkkrum.learning import simulate as simulation
from zkkrum.learning.federation import Play, train
from zkkrum.learning.training import digits_round
from zkkrum.proof.audit import audit
from zkkrum.proof.material import load
from zkkrum.proof.prove import prove
from zkkrum.proof.verify import verify
from zkkrum.protocol.forecast import round_gates
from zkkrum.protocol.poseidon2 import hash_many
from zkkrum.protocol.sizes import points_for
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.parties import open_round
from zkkrum.toolchain import Toolchain

CLIENTS, BYZANTINE, ATTACK, SEED = 10, 2, "sign-flip", 7
T = TypeVar("T")


def example_bundle() -> Path:
    """Return the bundle that ships with the project: in the package, or in a checkout's ``examples/``."""
    package = Path(__file__).parents[1]
    for home in (package / "examples", package.parents[1] / "examples"):
        if (home / "digits" / "bundle").is_dir():
            return home / "digits" / "bundle"
    raise InputError("the example bundle is missing from this installation", "reinstall zkkrum")


@click.command()
@click.argument("out", type=folder, default=Path("demo"))
@click.option("--rounds", type=AT_LEAST_ONE, default=1, show_default=True, help="More than one: a run to audit.")
@click.option("--seed", type=NOT_NEGATIVE, default=SEED, show_default=True)
@json_option
@click.pass_context
def demo(context: click.Context, out: Path, rounds: int, seed: int, as_json: bool) -> None:
    """Train ten clients for a round on digits, two of them Byzantine; commit, prove and verify in OUT [./demo].

    Without a reference string it verifies the bundle that ships with zkkrum instead, and exits with 5. With --rounds
    the proved means move the model, round after round; OUT is then a run, and is audited.
    """
    refuse_full(out)
    if rounds > 1:
        context.exit(_run(out, Play(rounds, CLIENTS, BYZANTINE, ATTACK, seed=seed), as_json))
    seconds: dict[str, float] = {}

    def step(name: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        say(f"{name} …")
        result = work()
        seconds[name] = time.perf_counter() - started
        return result

    tensors, attackers = step(
        f"train {CLIENTS} clients on digits",
        lambda: digits_round(CLIENTS, BYZANTINE, ATTACK, np.random.default_rng(seed)),
    )
    with step("look up the tools", lambda: Toolchain.find(notify=say).ready()) as tools, progress_bar() as progress:
        names = simulation.client_names(CLIENTS)
        truth = simulation.truth_of(CLIENTS, attackers, ATTACK, None, seed)
        d = sum(t.size for t in tensors[0].values())
        params = open_round(names, d, 1.0).params
        try:
            tools.reference_string(points_for(round_gates(params)))
        except ReferenceStringError as error:
            _verify_example(tools, error, as_json)
            context.exit(error.exit_code)
        round = step("commit", lambda: simulation.write_round(out, tensors, truth, hash_many, suffix=".npz"))
        home = RoundDirectory(out)
        material = load(out, tools.bb.hash_many)
        doubts = warn(material)
        done = step("prove", lambda: prove(material, out / "bundle", tools, progress=progress))
        found = step(
            "verify",
            lambda: verify(
                done.bundle,
                tools,
                commitments=home.commitments,
                round_file=home.round_file,
                aggregate=done.aggregate,
            ),
        )
    if as_json:
        print_json(
            {
                "bundle": str(done.bundle),
                "ok": found.ok,
                "flagged": [round.roster[i] for i in done.outcome.verdict.flagged],
                "selected": [round.roster[i] for i in done.outcome.verdict.selected],
                "byzantine": truth.byzantine,
                "warnings": doubts,
                "seconds": seconds,
            }
        )
        context.exit(0 if found.ok else EXIT_INVALID)
    print_proved(done, False, byzantine=truth.byzantine)
    tell()
    print_verification(found, done.bundle, False)
    tell()
    for name, value in seconds.items():
        tell(f"{value:7.2f} s  {name}")
    tell()
    for name, what in {
        "round.toml": "parameters and roster, for everybody",
        "commitments/": "what the clients published",
        "bundle/": "the proof, for everybody",
        done.aggregate.name: "the sum of the accepted, for the roster",
        "updates/, openings/": "private: the clients' and the server's",
    }.items():
        tell(f"{name:<20} {what}")
    tell(f"next: zkkrum report {out}")
    context.exit(0 if found.ok else EXIT_INVALID)


def _run(out: Path, play: Play, as_json: bool) -> int:
    with Toolchain.find(notify=say) as tools:
        steps = train(out, play, tools, say)
        found = audit(out, tools)
    if as_json:
        print_json({"run": str(out), "ok": found.ok, "steps": [asdict(step) for step in steps]})
    else:
        print_audit(found, out)
        tell(f"next: zkkrum audit {out} --save model.safetensors")
    return 0 if found.ok else EXIT_INVALID


def _verify_example(tools: Toolchain, error: ReferenceStringError, as_json: bool) -> None:
    say(f"No proof can be made here: {error.message}\n  -> {error.hint}")
    bundle = example_bundle()
    say(f"Verifying the bundle that ships with zkkrum instead; that needs no reference string: {bundle}")
    home = RoundDirectory(bundle.parent)
    found = verify(bundle, tools, commitments=home.commitments, round_file=home.round_file)
    print_verification(found, bundle, as_json)
