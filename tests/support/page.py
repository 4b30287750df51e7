"""What the tests of the verification page share: its code under Node.js, and bundles forged in many ways.

A forgery here is a name, the bundle it starts from, what is done to it, and a part of the reason that both verifiers
must give in the same words.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from support.proving import CLIENTS, Edit, Forgery, N
from support.tools import CHECKOUT
from zkkrum.proof.form import PUBLIC_INPUTS, shard_files
from zkkrum.protocol.field import P
from zkkrum.toolchain.web import Workspace

TWIN = CHECKOUT / "tests" / "web" / "twin.ts"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def files_of(folder: Path) -> dict[str, str]:
    """Every file of a folder in base64, by path."""
    return {p.relative_to(folder).as_posix(): encoded(p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


class Twin:
    """The page's own code, answering one question after the other."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def __call__(self, operation: str, **request: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"operation": operation, **request}).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["result"]


@contextmanager
def running_twin(web: Workspace) -> Iterator[Twin]:
    """Build the twin in a workspace of the page that has it, and run it."""
    out = web.folder / "twin.cjs"
    web.run("build.mjs", "tests/twin.ts", out)
    process = subprocess.Popen([web.node.command, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Twin(process)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()


# Forgeries


@dataclass(frozen=True)
class Case:
    """A forged bundle.

    Parameters
    ----------
    name
        What is wrong with it.
    edit
        Makes it so.
    reason
        Part of the reason.
    source
        The bundle it starts from.
    fix
        Whether the adversary makes hashes and names fit.
    compared
        What it is compared with, of the genuine round: ``commitments`` or ``round``.
    text
        What stands in the place of the manifest.
    """

    name: str
    edit: Edit
    reason: str
    source: Literal["malicious", "sharded"] = "malicious"
    fix: bool = True
    compared: tuple[str, ...] = field(default=())
    text: str = ""


def _flip(name: str, offset: int) -> Edit:
    return lambda forgery: forgery.flip(name, offset)


def _resize(name: str, change: Callable[[bytes], bytes]) -> Edit:
    return lambda forgery: forgery.write(name, change(forgery.data(name)))


def _word(name: str, index: int, value: int) -> Edit:
    return lambda forgery: forgery.set_word(name, index, value)


def _claim(*path: str | int, value: object) -> Edit:
    """Replace one entry of the manifest."""

    def edit(forgery: Forgery) -> None:
        place: Any = forgery.manifest
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return edit


def _remove(*path: str) -> Edit:
    def edit(forgery: Forgery) -> None:
        place: Any = forgery.manifest
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return edit


def _all(*edits: Edit) -> Edit:
    def edit(forgery: Forgery) -> None:
        for each in edits:
            each(forgery)

    return edit


def _drop(name: str) -> Edit:
    return lambda forgery: forgery.drop(name)


def _verdict(**changes: Any) -> Edit:
    return _all(lambda forgery: forgery.manifest["verdict"].update(changes), Forgery.fix_accepted)


def _swapped_roster(forgery: Forgery) -> None:
    alice, bob, carol, dave, eve = CLIENTS
    forgery.manifest["round"]["roster"] = [alice, bob, dave, carol, eve]
    for entry, client in zip(forgery.manifest["commitments"], forgery.manifest["round"]["roster"], strict=True):
        entry["client"] = client


FITTING = Forgery.fix_commitments
"""The adversary makes commitments, A and the statement those of the leaves."""
REFUTED = "proof: bb refutes it: the proof does not hold for these public inputs"
LEAVES = "the leaves of the proof do not make it up"
PROOFS, INPUTS = zip(*(shard_files(t) for t in range(3)), strict=True)
LAST_WORD = N + 5 - 1
RHO, LINK = 1, N + 2
"""Positions in the verdict's public inputs."""
BEFORE, AFTER, LEAF = 2 * N + 2, 2 * N + 3, N + 1
"""Positions in a shard's."""
OTHER_BYTES = "0x" + "11" * 32

CASES = [
    # The proof
    *(Case(f"proof byte {k} flipped", _flip("proof", k), REFUTED) for k in (0, 31, 63, 500, 3000, -64, -33, -1)),
    Case("proof empty", _resize("proof", lambda data: b""), "proof: expected 7,232 bytes, found 0"),
    Case("proof a byte shorter", _resize("proof", lambda data: data[:-1]), "proof: expected 7,232 bytes, found 7,231"),
    Case("proof a word shorter", _resize("proof", lambda data: data[:-32]), "found 7,200"),
    Case("proof a word longer", _resize("proof", lambda data: data + bytes(32)), "found 7,264"),
    Case("proof all zeros", _resize("proof", lambda data: bytes(len(data))), REFUTED),
    Case("proof all ones", _resize("proof", lambda data: b"\xff" * len(data)), REFUTED),
    Case("proof without its hash", _flip("proof", 777), "proof: its hash is not the one in the manifest", fix=False),
    Case("proof missing", lambda f: (f.path / "proof").unlink(), "proof: No such file or directory", fix=False),
    # The public inputs
    Case("statement changed", _word(PUBLIC_INPUTS, 0, 5), "public_inputs: statement is not that of this round"),
    Case("first leaf changed", _word(PUBLIC_INPUTS, 1, 5), f"commitment of 'alice': {LEAVES}"),
    Case("leaf and commitments changed", _all(_word(PUBLIC_INPUTS, 1, 5), FITTING), REFUTED),
    Case("leaf of A changed", _word(PUBLIC_INPUTS, 1 + N, 5), "aggregate: the leaves of the proof do not make up A"),
    Case("leaf of A and A changed", _all(_word(PUBLIC_INPUTS, 1 + N, 5), FITTING), REFUTED),
    Case("outputs changed", _word(PUBLIC_INPUTS, LAST_WORD, 1), "public_inputs: selected is not that of this round"),
    Case("word not below p", _word(PUBLIC_INPUTS, 3, P), "public_inputs: a word is not below the field modulus"),
    Case("public inputs too short", _resize(PUBLIC_INPUTS, lambda data: data[:-32]), f"expected {32 * (N + 5)} bytes"),
    Case("names of others", _claim("public_inputs", 0, "name", value="x"), "named public inputs are not", fix=False),
    # The key
    *(Case(f"key byte {k} flipped", _flip("vk", k), "vk: not the verification key") for k in (0, 95, 160, -1)),
    Case("key of another form", lambda f: f.write("vk", b"{}"), "vk: expected 1,888 bytes, found 2"),
    Case("m is another", _all(_claim("round", "parameters", "m", value=2), FITTING), "vk: not the verification key"),
    # The round
    Case("clip alone", _claim("round", "clip", value=3.5), f"commitment of 'alice': {LEAVES}"),
    Case("clip", _all(_claim("round", "clip", value=3.5), FITTING), REFUTED),
    Case("round id", _all(_claim("round", "round_id", value=OTHER_BYTES), FITTING), REFUTED),
    Case("subject", _all(_claim("round", "subject", value=OTHER_BYTES), FITTING), REFUTED),
    Case("chain", _all(_claim("round", "chain_id", value="1"), FITTING), REFUTED),
    Case("contract", _all(_claim("round", "contract", value="0x" + "33" * 20), FITTING), REFUTED),
    Case("roster", _all(_swapped_roster, FITTING), REFUTED),
    Case("clip is nothing", _claim("round", "clip", value=0), "clip: expected a finite number > 0, found 0.0"),
    Case(
        "n too large", _claim("round", "parameters", "n", value=10**30), "n (clients) must be in [3, 253], found 10000"
    ),
    Case("f too large", _claim("round", "parameters", "f", value=2), "f (tolerated Byzantine clients) must satisfy"),
    Case("z is no fraction", _claim("round", "parameters", "z", value="5e0"), "z: expected a decimal or a fraction"),
    Case("z is a binary fraction", _claim("round", "parameters", "z", value=5.5), "write it as text, such as"),
    Case("another protocol", _claim("round", "protocol", value="zkkrum-1"), "protocol: expected 'zkkrum-2', found"),
    Case("client twice", _claim("round", "roster", 1, value="alice"), "letters, found 'alice' and 'alice'"),
    Case(
        "client in capitals", _claim("round", "roster", 1, value="ＡLICE"), r"letters, found 'alice' and '\uff21LICE'"
    ),
    Case("client decomposed", _claim("round", "roster", 1, value="e\u0301"), r"form C: expected '\xe9'"),
    Case("client invisible", _claim("round", "roster", 1, value="bob\ufe0f"), r"roster: 'bob\ufe0f' is not usable"),
    Case("client with a blank", _claim("round", "roster", 1, value="bob "), "roster: 'bob ' is not usable"),
    Case("clip as text", _claim("round", "clip", value="4.0"), "manifest: round.clip: Input should be a valid number"),
    Case("client never to be", _claim("round", "roster", 1, value="bob\ufdd0"), r"roster: 'bob\ufdd0' is not usable"),
    Case("client of markup", _claim("round", "roster", 1, value="</b>"), "roster: '</b>' is not usable as a file name"),
    # The manifest
    Case("no JSON", _all(), "manifest: file: Invalid JSON: EOF while parsing an object at line 1 column 1", text="{"),
    Case("key twice", _claim("seconds", value={"a": 0, 1: 0, "1": 0}), "manifest: key '1' stands twice in one object"),
    Case("no number", _claim("seconds", "a", value=float("nan")), "manifest: NaN is not a finite number"),
    Case("endless number", _claim("circuits", "vk", "gates", value=10**100), "an integer of more than 100 digits"),
    Case("file far too large", _resize("proof", lambda data: bytes(20_000)), "expected at most 16,320 bytes, found 20"),
    Case("field missing", _remove("verdict", "selected"), "manifest: verdict.selected: Field required"),
    Case("field too many", _claim("round", "parameters", "q", value=1), "Extra inputs are not permitted"),
    Case("wrong type", _claim("verdict", "malicious", value=1), "verdict.malicious: Input should be a valid boolean"),
    Case("unknown format", _claim("format", value="zkkrum-bundle-x"), "format: Input should be 'zkkrum-bundle-2'"),
    Case("other form", _claim("form", value="sharded"), "manifest: form: d = 60 in chunks of 63 makes 1"),
    Case("file too many", _claim("files", "vk.shard", value=""), "'vk.shard' is not a file of this form", fix=False),
    Case("file unlisted", _remove("files", "vk"), "manifest: vk is missing", fix=False),
    Case("commitment changed", _claim("commitments", 2, "commitment", value=OTHER_BYTES), "commitment of 'carol'"),
    Case("commitment no bytes", _claim("commitments", 2, "commitment", value="0x1"), "commitment: expected 0x and 64"),
    Case("commitments exchanged", lambda f: f.manifest["commitments"].reverse(), "not those of the roster"),
    Case("A changed", _claim("aggregate", value=OTHER_BYTES), "aggregate: the leaves of the proof do not make up A"),
    # The verdict
    Case("nobody flagged", _verdict(malicious=False, flagged=[]), "public_inputs: malicious is not that"),
    Case("another flagged", _verdict(flagged=["alice"]), "public_inputs: flagged is not that of this round"),
    Case("another selected", _verdict(selected=["dave"]), "public_inputs: selected is not that of this round"),
    Case("all accepted", _claim("verdict", "accepted", value=list(CLIENTS)), "accepted does not follow"),
    Case(
        "stranger", _claim("verdict", "flagged", value=["<img src=x>é\u200b"]), r"client '<img src=x>\xe9\u200b' is not"
    ),
    Case("flagged twice", _claim("verdict", "flagged", value=["eve", "eve"]), "a client is named twice"),
    # Shards
    Case("shard lost", _all(_drop(PROOFS[1]), _drop(INPUTS[1])), "makes 3, found 2", "sharded"),
    Case("shard's file lost", lambda f: (f.path / PROOFS[2]).unlink(), "No such file", "sharded", fix=False),
    Case("shard repeated", lambda f: f.copy_within(shard_files(0), shard_files(1)), "shard 1: the chain is", "sharded"),
    Case("shards' proofs swapped", lambda f: f.swap(PROOFS[0], PROOFS[1]), "shard 0: bb refutes it", "sharded"),
    Case("shard's proof damaged", _flip(PROOFS[2], 999), "shard 2: bb refutes it", "sharded"),
    Case("shard's leaf", _word(INPUTS[1], LEAF + 2, 5), f"commitment of 'carol': {LEAVES}", "sharded"),
    Case("shard's rho", _word(INPUTS[1], 0, 5), "shard 1: its rho is not the verdict's", "sharded"),
    Case("shard's x", _word(INPUTS[2], 2, 5), "shard 2: its x[carol] is not the verdict's", "sharded"),
    Case("start elsewhere", _word(INPUTS[0], BEFORE, 5), "does not start at the constant c_0", "sharded"),
    Case("link broken", _word(INPUTS[0], AFTER, 5), "does not start at where shard 0 ends", "sharded"),
    Case("last link broken", _word(PUBLIC_INPUTS, LINK, 5), "does not start where the last shard ends", "sharded"),
    Case("shard's word not below p", _word(INPUTS[1], 4, P), f"{INPUTS[1]}: a word is not below", "sharded"),
    Case("shard's inputs too long", _resize(INPUTS[1], lambda data: data + data), "expected 448 bytes", "sharded"),
    Case("shard's key", _flip("vk.shard", 200), "vk.shard: not the verification key of this statement", "sharded"),
    Case("last shard's key", _flip("vk.last", 200), "vk.last: not the verification key of this statement", "sharded"),
    # Compared with what was published
    Case(
        "not the published clip",
        _claim("round", "clip", value=3.5),
        "round: clip of the bundle differ",
        compared=("round",),
    ),
    Case("not the published m", _claim("round", "parameters", "m", value=2), "round: parameters", compared=("round",)),
    Case(
        "not the published commitment",
        _all(_word(PUBLIC_INPUTS, 2, 5), FITTING),
        "commitment of 'bob': the bundle's is not the one in commitments",
        compared=("commitments",),
    ),
    Case("not the context", _claim("round", "clip", value=1), "published under another", compared=("commitments",)),
]
