"""Commands by which a round comes to be: simulate, open, commit.

Only parses, prints and exits.
"""

from __future__ import annotations

from pathlib import Path

import click

from zkkrum.cli.console import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    existing_file,
    folder,
    json_option,
    listing,
    new_file,
    print_json,
    say,
    say_fallback,
    tell,
)
from zkkrum.cli.terms import terms_options
from zkkrum.errors import InputError
from zkkrum.learning import simulate as simulation
from zkkrum.learning.attacks import ATTACKS
from zkkrum.proof import estimate as forecasts
from zkkrum.protocol.field import hex_of
from zkkrum.protocol.params import ID_BYTES_MAX, N_MAX, Params, is_address
from zkkrum.protocol.poseidon2 import Hash, hash_many
from zkkrum.protocol.quantize import clipped_share, vanished_share
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.foreign import read_plain
from zkkrum.rounds.models import check_fits, check_subject, load_model, subject_of
from zkkrum.rounds.parties import Terms, commit_update, default_clip, open_round
from zkkrum.rounds.roundfile import load_round, parse_bytes, save_round
from zkkrum.rounds.tensors import SUFFIXES
from zkkrum.rounds.updates import flatten, load_update, of_size
from zkkrum.toolchain import Toolchain, points_available

NATIVE_HASH_FROM = 20_000
"""Coordinates from which a client's commitment goes through bb (0.3 s instead of 4 for 10^6)."""

CLIPPED_MOST, VANISHED_MOST = 0.05, 0.5
"""Shares of an update beyond which its client is warned. Of normal values under the default clip, a 15,000th is clipped
and, at b = 8, a hundredth vanishes."""

ATTACK_HELP = listing("Attacks", {name: attack.summary for name, attack in ATTACKS.items()})


def _hash_for(d: int) -> Hash:
    """Return bb's hash for long vectors (installing the tools if needed), else the plain Python one."""
    if d < NATIVE_HASH_FROM:
        return hash_many
    return Toolchain.find(notify=say).bb.hash_many


@click.command(epilog=ATTACK_HELP)
@click.argument("out", type=folder, default=Path("round"))
@click.option("--clients", "-n", type=AT_LEAST_ONE, default=10, show_default=True)
@click.option("--dimension", "-d", type=AT_LEAST_ONE, default=650, show_default=True)
@click.option("--byzantine", type=NOT_NEGATIVE, default=2, show_default=True, help="How many clients attack.")
@click.option("--attack", type=click.Choice(list(ATTACKS)), default="gaussian", show_default=True)
@click.option("--strength", type=float, help="Of the attack [default: its own].")
@click.option(
    "--heterogeneity", type=click.FloatRange(0), default=0.0, show_default=True, help="σ of log-normal norms."
)
@click.option("--seed", type=NOT_NEGATIVE, default=0, show_default=True, help="Of the updates; never of salts.")
@click.option("--format", "suffix", type=click.Choice([s[1:] for s in SUFFIXES]), default="npy", show_default=True)
@terms_options
@json_option
def simulate(
    out: Path,
    clients: int,
    dimension: int,
    byzantine: int,
    attack: str,
    strength: float | None,
    heterogeneity: float,
    seed: int,
    suffix: str,
    terms: Terms,
    as_json: bool,
) -> None:
    """Make a round directory OUT [default: ./round] of honest and Byzantine clients."""
    Params.of(clients, dimension)  # whatever is out of bounds is said before there are updates of so many
    tensors, attackers = simulation.simulated_updates(
        clients, dimension, byzantine, attack, strength, heterogeneity, seed
    )
    truth = simulation.truth_of(clients, attackers, attack, strength, seed)
    round = simulation.write_round(out, tensors, truth, _hash_for(clients * dimension), terms, f".{suffix}")
    say_fallback(round.params)
    if as_json:
        print_json({"round": str(out), "context": hex_of(round.context), **truth.model_dump()})
        return
    tell(f"{out}: {clients} clients, d = {dimension}, {byzantine} Byzantine ({attack})")
    tell(f"next: zkkrum prove {out}")


@click.command("open")
@click.argument("out", type=new_file, default=Path("round.toml"))
@click.option("--client", "clients", multiple=True, help="Id or 0x-address, in roster order. Repeatable.")
@click.option("--roster", type=existing_file, help="Ids instead, one a line, in order.")
@click.option("--dimension", "-d", type=AT_LEAST_ONE, help="Values of an update, where no --base says.")
@click.option("--base", type=existing_file, help="The model that the round starts from: gives d and subject.")
@click.option("--subject", metavar="0x…", help="SHA-256 of tensor layout and base model [default: zero].")
@click.option("--chain-id", type=NOT_NEGATIVE, default=0, help="Chain where the verdict will be used.")
@click.option("--contract", metavar="0x…", help="Contract there [default: none, off chain].")
@terms_options
@json_option
def open_(
    out: Path,
    clients: tuple[str, ...],
    roster: Path | None,
    dimension: int | None,
    base: Path | None,
    subject: str | None,
    chain_id: int,
    contract: str | None,
    terms: Terms,
    as_json: bool,
) -> None:
    """Open a round: write its parameters and roster, with a fresh id, to OUT [default: ./round.toml]."""
    if out.exists():
        raise InputError(f"{out}: already exists", "a round id is never used twice: choose another file")
    if terms.clip is None:
        raise InputError(
            "--clip: expected a number, found none: no update is known yet, so it cannot be chosen for you",
            "four times the root mean square of an ordinary update clips little and keeps what is small",
        )
    if bool(clients) == bool(roster):
        raise click.UsageError("expected the roster: --client, once for each client, or --roster FILE")
    ids = clients or _ids_of(roster)
    if bool(contract) != bool(chain_id):
        raise click.UsageError("expected --chain-id and --contract together, or neither")
    if contract and (strangers := [client for client in ids if not is_address(client)]):
        raise InputError(
            f"client {strangers[0]!r}: expected an address, 0x and 40 hexadecimal digits: a contract knows no others"
        )
    if base and not (dimension or subject):
        model = load_model(base)
        d, about = flatten(model, "model").vector.size, subject_of(model)
    elif dimension and not base:
        d, about = dimension, parse_bytes(subject, 32, "subject") if subject else bytes(32)
    else:
        raise click.UsageError("expected --base MODEL, or --dimension (with or without --subject)")
    round = open_round(
        ids,
        d,
        terms.clip,
        terms,
        subject=about,
        chain_id=chain_id,
        contract=parse_bytes(contract, 20, "contract") if contract else bytes(20),
    )
    save_round(out, round)
    say_fallback(round.params)
    if as_json:
        print_json({"round": str(out), "context": hex_of(round.context), "chunk": round.params.chunk})
        return
    form = "one circuit" if round.params.chunks == 1 else f"{round.params.chunks:,} shards"
    tell(f"{out}: {round.params.n} clients, {d:,} values each, to be proved in {form}")
    found = forecasts.estimate(round.params)
    if found.points > max(here := points_available(), 2**15):
        tell(
            f"Whoever proves it needs {found.points:,} points of the reference string (here are {here:,}) and about "
            f"{found.megabytes:,} MB: `zkkrum estimate {out}` says more."
        )
    tell(f"next: publish {out}; each client: zkkrum inspect {out}, zkkrum commit UPDATE --round {out}")


def _ids_of(roster: Path | None) -> tuple[str, ...]:
    """Read a file of client ids, one a line."""
    if roster is None:
        return ()
    try:
        lines = read_plain(roster, N_MAX * (ID_BYTES_MAX + 2)).decode("utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"{roster}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{roster}: expected UTF-8 text, a client id a line") from error
    return tuple(line.strip(" \t\r") for line in lines if line.strip(" \t\r"))


@click.command()
@click.argument("update", type=existing_file)
@click.option("--round", "round_file", type=existing_file, default=Path("round.toml"), show_default=True)
@click.option("--client", help="Your id in the roster [default: the file's name].")
@click.option("--base", type=existing_file, help="The model you trained: refuse a round that does not start from it.")
@click.option("--out", "-o", type=folder, default=Path(), help="Round directory to write into [default: .].")
@json_option
def commit(update: Path, round_file: Path, client: str | None, base: Path | None, out: Path, as_json: bool) -> None:
    """Quantize UPDATE and commit to it: what a client runs.

    Writes commitments/CLIENT.json, to publish, and openings/CLIENT.npz, to send to the server once all n
    commitments are published: who opens earlier lets colluders adapt to it. A context is committed to once.
    """
    round = load_round(round_file)
    who = client or update.stem
    home = RoundDirectory(out)
    loaded = load_update(update, who, of_size(round.params.d))
    if base:
        model = load_model(base)
        check_subject(model, round)
        check_fits(model, loaded.layout)
    opening, commitment = commit_update(round, who, loaded, _hash_for(round.params.d))
    home.save_commitment(round, who, opening, commitment)
    clipped = clipped_share(loaded.vector, round.clip)
    vanished = vanished_share(loaded.vector, opening.q)
    report = {
        "client": who,
        "context": hex_of(round.context),
        "commitment": hex_of(commitment),
        "clipped": clipped,
        "vanished": vanished,
        "left_out": loaded.left_out,
        "publish": str(home.commitments / f"{who}.json"),
        "send": str(home.openings / f"{who}.npz"),
    }
    if not loaded.vector.any():
        say("warning: this update is zero everywhere")
    elif clipped > CLIPPED_MOST or vanished > VANISHED_MOST:
        say(
            f"warning: the clip of this round, {round.clip:g}, does not suit this update, for which it would be "
            f"{default_clip([loaded]):.3g}: what is committed is not much like it. Is it the update, and not the "
            "model? If so, tell the operator"
        )
    if as_json:
        print_json(report)
        return
    tell(f"commitment of {who!r}: {report['commitment']}")
    tell(f"publish {report['publish']}; once all have published, send {report['send']} to the server")
    if loaded.left_out:
        tell(f"no part of the update, since they are buffers: {', '.join(loaded.left_out)}")
    if clipped:
        tell(f"{clipped:.2%} of the entries were clipped to ±{round.clip:g}")
    if vanished > 0.001:
        tell(f"{vanished:.2%} of the entries became 0: they are less than half a step")
