"""Export for a chain: the verifiers of a shape, `KrumRounds` bound to the same constants, and a bundle's transactions.

Must not print, and needs no EVM but to rehearse. Everything follows from the round's constants, the installed package
and the bundle, which is copied into the export; so `check` verifies the copy, renders all the rest again and compares
byte by byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from zkkrum.errors import InputError
from zkkrum.evm import solidity, verifiers
from zkkrum.evm.chain import NOBODY
from zkkrum.evm.claims import ClaimState, first_missing
from zkkrum.evm.evidence import evidence_of
from zkkrum.evm.gas import batch_size, gas_of
from zkkrum.evm.rehearsal import is_bound, rehearse
from zkkrum.evm.rounds import DEFAULT_SCHEDULE, DEFAULT_SLASHING, VERIFIERS
from zkkrum.evm.solidity import Contract, encode_call
from zkkrum.evm.transactions import Call, Evidence
from zkkrum.evm.verifiers import Verifier
from zkkrum.files import whole_folder
from zkkrum.proof.bundle import read_file, read_manifest
from zkkrum.proof.form import MANIFEST as BUNDLE_MANIFEST
from zkkrum.proof.form import Form
from zkkrum.proof.keys import expected_key_hash
from zkkrum.proof.statement import PublicChallenge, Words, round_words, shard_words, verdict_words
from zkkrum.proof.verify import Verification, verify
from zkkrum.protocol.commitment import statement
from zkkrum.protocol.field import hex_of, to_hex
from zkkrum.protocol.krum import Verdict
from zkkrum.protocol.params import Params
from zkkrum.rounds.foreign import parse_json
from zkkrum.rounds.roundfile import FIRST_ONLY, ParametersFile, Strict, parse_bytes, parse_model
from zkkrum.toolchain import PAIR, Toolchain
from zkkrum.version import __version__

FORMAT: Final = "zkkrum-export-2"
CONSTRUCTOR = "constructor.json"
VALUE_MAX, LISTED_MAX = 100, 64
"""Characters of what may be filled in there, and entries of a list."""
MANIFEST, TRANSACTIONS, INPUTS, BUNDLE = "export.json", "transactions.json", "public_inputs.json", "bundle"
Files = dict[str, bytes]


class ExportManifest(Strict):
    """``export.json``: what the folder is for. `check` takes from it parameters, kind of verifier and ``start``.

    ``start`` is the first shard that the transactions prove, where they go on with a claim that was begun.
    """

    format: Literal["zkkrum-export-2"]
    zkkrum: str
    noir: str
    bb: str
    verifier: Literal["optimized", "plain"]
    parameters: ParametersFile
    start: int | None
    runtime_bytes: Annotated[dict[str, int], FIRST_ONLY]
    files: Annotated[dict[str, str], FIRST_ONLY]


@dataclass(frozen=True)
class Planned:
    """A transaction of an export.

    Parameters
    ----------
    file
        Its calldata in hexadecimal, relative to the folder.
    title
        What it does.
    bytes
        Of calldata.
    gas
        Forecast; measured gas stands in `Exported.measured`.
    """

    file: str
    title: str
    bytes: int
    gas: int


@dataclass(frozen=True)
class Exported:
    """What was written.

    Parameters
    ----------
    folder
        Where.
    files
        Names of the files, relative to it.
    sizes
        Bytes of runtime code by contract.
    bound
        Whether the bundle was proved for a contract on a chain; no contract takes any other. None without a bundle.
    transactions
        Those of the bundle, in order.
    claim
        What the claim is that they go on with, in words.
    measured
        Their gas in a rehearsal, where one was asked for.
    """

    folder: Path
    files: tuple[str, ...]
    sizes: Mapping[str, int]
    bound: bool | None = None
    transactions: tuple[Planned, ...] = ()
    claim: str = ""
    measured: tuple[int, ...] = ()


def _text(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _hex(data: bytes) -> bytes:
    return f"0x{data.hex()}\n".encode()


def _artifact(contract: Contract) -> bytes:
    """Return ABI and creation code; addresses of libraries are to be put at the byte offsets of ``links``."""
    links = {name: list(offsets) for name, offsets in contract.links.items()}
    code = hex_of(contract.bytecode)
    return _text({"contractName": contract.name, "abi": contract.abi, "bytecode": code, "links": links})


def constructor_template(params: Params) -> dict[str, Any]:
    """Return the constructor arguments of `KrumRounds`: what the shape decides filled in, what you decide null.

    Verifiers that the shape does not have are the zero address; the schedule is the default, to be changed at will.
    """
    has, words = verifiers.names_of(params), solidity.circuit_words(params)
    return {
        "verifiers_": {name: None if name in has else NOBODY for name in VERIFIERS},
        "circuit": {k: hex_of(v) if isinstance(v, bytes) else v for k, v in words.items()},
        "slashing_": dict.fromkeys(DEFAULT_SLASHING.words(NOBODY)),
        "schedule_": DEFAULT_SCHEDULE.words(),
        "operator": None,
        "vetoer": None,
    }


# Rendering


@dataclass(frozen=True)
class _Rendered:
    """What follows from the constants and their keys: files, code sizes, verifiers, and the compiled contracts."""

    files: Files
    sizes: dict[str, int]
    checkers: list[Verifier]
    contracts: Mapping[str, Contract]


def _render(params: Params, keys: Mapping[str, bytes], tools: Toolchain, *, optimized: bool, fresh: bool) -> _Rendered:
    checkers = verifiers.render(params, keys, tools, optimized=optimized, fresh=fresh)
    contracts = solidity.compile_rounds(tools.solc, fresh=fresh)
    own = [contracts[name] for name in ("KrumRounds", "SlashingRouter")]
    for contract in own:
        verifiers.check_size(contract)
    files = {
        **{name: solidity.source(name).encode() for name in solidity.ROUNDS_SOURCES},
        "compiler/KrumRounds.json": _text(solidity.rounds_input()),
        CONSTRUCTOR: _text(constructor_template(params)),
        **{f"artifacts/{contract.name}.json": _artifact(contract) for contract in own},
        "artifacts/ISlasher.json": _artifact(contracts["ISlasher"]),
    }
    for checker in checkers:
        files |= {
            f"keys/{checker.name}.vk": checker.key,
            f"verifiers/{checker.name}.sol": checker.text.encode(),
            f"compiler/{checker.name}.json": _text(solidity.verifier_input(checker.text)),
            f"artifacts/{checker.name}.json": _artifact(checker.contract),
        }
        files |= {f"artifacts/{checker.name}.{n}.json": _artifact(part) for n, part in checker.libraries.items()}
    sizes = {name: size for checker in checkers for name, size in checker.sizes.items()}
    return _Rendered(files, sizes | {contract.name: contract.size for contract in own}, checkers, contracts)


def _manifest(params: Params, files: Files, sizes: dict[str, int], optimized: bool, start: int | None) -> bytes:
    manifest = ExportManifest(
        format=FORMAT,
        zkkrum=__version__,
        noir=PAIR.noir,
        bb=PAIR.bb,
        verifier="optimized" if optimized else "plain",
        parameters=ParametersFile.of(params),
        start=start,
        runtime_bytes=sizes,
        files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    )
    return (manifest.model_dump_json(indent=2) + "\n").encode()


def _plan(
    told: Evidence, contracts: Mapping[str, Contract], calls: Sequence[Call], optimized: bool
) -> tuple[Files, tuple[Planned, ...]]:
    """Return the files of the transactions, ready to be sent in order, and what they are."""
    rounds, p = contracts["KrumRounds"], told.round.params
    files: Files = {}
    planned = []
    for k, call in enumerate(calls):
        data = call.data(rounds.selectors)
        file = f"transactions/{k:04d}-{call.function}.hex"
        files[file] = _hex(data)
        planned.append(Planned(file, call.title, len(data), gas_of(call, data, p, optimized=optimized)))
    round_id = int.from_bytes(told.round.round_id, "big")
    state = encode_call(rounds.selectors["claimOf"], round_id, 0).hex()
    files[TRANSACTIONS] = _text(
        {
            "to": hex_of(told.round.contract),
            "chainId": str(told.round.chain_id),
            "roundId": hex_of(told.round.round_id),
            "aggregate": hex_of(told.aggregate),
            "outputs": dict(zip(("malicious", "flagged", "selected"), map(str, told.outputs), strict=True)),
            "transactions": [
                {"file": t.file, "what": t.title, "bytes": t.bytes, "gasForecast": t.gas} for t in planned
            ],
            "state": {
                "function": "claimOf(bytes32,address)",
                "data": f"0x{state[:-40]}<the sender's address, 40 digits>",
                "answer": "what eth_call returns goes to `zkkrum export BUNDLE --next`",
            },
        }
    )
    return files, tuple(planned)


def _named_inputs(told: Evidence, commitments: Sequence[bytes]) -> Files:
    """Return the public inputs of every proof by name, in the order the verifiers take them."""
    round = told.round
    stated = statement(round.context, commitments, told.aggregate)
    verdict = Verdict.of_words(*told.outputs)
    found: dict[str, Words] = {}
    if told.public is None:
        found["round"] = round_words(round, stated, told.leaves[0], verdict)
    else:
        public: PublicChallenge = told.public
        for t, leaves in enumerate(told.leaves):
            found[f"shard {t}"] = shard_words(round, public, leaves, told.links[t], told.links[t + 1])
        found["verdict"] = verdict_words(round, stated, public, told.links[-1], verdict)
    inputs = {of: [{"name": name, "value": to_hex(value)} for name, value in words] for of, words in found.items()}
    return {INPUTS: _text(inputs)}


def _of_bundle(
    path: Path, checked: Verification, rendered: _Rendered, start: int | None, optimized: bool
) -> tuple[Files, tuple[Planned, ...], Evidence, list[Call]]:
    """Return everything of an export that follows from a verified bundle: its copy, inputs and transactions."""
    told = evidence_of(path, checked)
    p = told.round.params
    commitments = _commitments(path)
    calls = told.calls(batch_size(p, optimized=optimized), start)
    files, planned = _plan(told, rendered.contracts, calls, optimized)
    files |= _named_inputs(told, commitments)
    files |= {f"{BUNDLE}/{name}": read_file(path / name) for name in (BUNDLE_MANIFEST, *Form.of(p).files(p))}
    if told.public is None:
        [(_, proof, words)] = told.questions(commitments)
        files["verify.hex"] = _hex(encode_call(rendered.contracts["IVerifier"].selectors["verify"], proof, words))
    return files, planned, told, calls


def _commitments(path: Path) -> list[bytes]:
    return [parse_bytes(entry.commitment, 32, "commitment") for entry in read_manifest(path).commitments]


# Writing


def export_shape(params: Params, out: Path, tools: Toolchain, *, optimized: bool = True) -> Exported:
    """Export the contracts of a shape. Needs the reference string unless the keys are in the cache.

    Raises
    ------
    InputError
        If ``out`` holds something else.
    ReferenceStringError, ToolFailedError
    """
    rendered = _render(params, verifiers.keys_of(params, tools), tools, optimized=optimized, fresh=False)
    files = rendered.files
    files[MANIFEST] = _manifest(params, files, rendered.sizes, optimized, None)
    _write(out, files)
    return Exported(out, tuple(sorted(files)), rendered.sizes)


def export_bundle(
    path: Path,
    out: Path,
    tools: Toolchain,
    *,
    optimized: bool = True,
    state: ClaimState | None = None,
    rehearsed: bool = False,
) -> Exported:
    """Verify a bundle, then export the contracts of its shape and its transactions.

    Parameters
    ----------
    state
        Of the sender's claim, where it was begun: then only what is missing is exported.
    rehearsed
        Whether to try the transactions on an EVM in this process (extra ``zkkrum[evm]``), from the beginning.

    Raises
    ------
    InputError
        If the bundle is not valid, nothing is left to send, or ``out`` holds something else.
    RevertError
        If a rehearsed transaction is refused.
    """
    checked = verify(path, tools)
    if not checked.ok or checked.round is None:
        raise InputError(f"{path}: refusing to export a bundle that does not verify: {checked.reason}")
    p = checked.round.params
    start, claim = first_missing(evidence_of(path, checked), state) if state else (None, "")
    keys = {name: read_file(path / name) for name in Form.of(p).circuits(p)}
    rendered = _render(p, keys, tools, optimized=optimized, fresh=False)
    more, planned, told, calls = _of_bundle(path, checked, rendered, start, optimized)
    measured: list[int] = []
    if rehearsed:
        batch = batch_size(p, optimized=optimized)
        earlier = [told.prove(range(t, min(t + batch, start or 0))) for t in range(0, start or 0, batch)]
        sent = [*([] if start is None else [told.begin()]), *earlier, *calls]
        measured = rehearse(told, sent, _commitments(path), rendered.checkers, tools)[-len(calls) :]
    files = {**rendered.files, **more}
    files[MANIFEST] = _manifest(p, files, rendered.sizes, optimized, start)
    _write(out, files)
    return Exported(out, tuple(sorted(files)), rendered.sizes, is_bound(told), planned, claim, tuple(measured))


def _kept(out: Path, template: bytes) -> bytes:
    """Return the constructor arguments to write: what a deployer has filled in there stays."""
    try:
        manifest = parse_model(ExportManifest, read_file(out / MANIFEST))
        found = read_file(out / CONSTRUCTOR)
    except (OSError, ValueError):
        return template
    if _is_filled(template, found):
        return found
    if found != _text(constructor_template(manifest.parameters.params())):
        raise InputError(
            f"{out / CONSTRUCTOR}: has been filled in, for a contract of other constants", "choose another path with -o"
        )
    return template


def _write(out: Path, files: Files) -> None:
    if out.exists() and not _is_export(out) and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not an export", "choose another path with -o")
    files = {**files, CONSTRUCTOR: _kept(out, files[CONSTRUCTOR])}
    with whole_folder(out) as folder:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)


def _is_export(folder: Path) -> bool:
    """Tell whether a folder is an export and nothing more, so that it may be replaced."""
    try:
        manifest = parse_model(ExportManifest, read_file(folder / MANIFEST))
    except (OSError, ValueError):
        return False
    return _present(folder) <= {MANIFEST, *manifest.files}


def _present(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


# Checking


def check(folder: Path, tools: Toolchain) -> list[str]:
    """Render an export again from its parameters and its bundle, and compare.

    All Solidity is made and compiled anew; keys are compared as `zkkrum.proof.verify.verify` does.

    Returns
    -------
    list of str
        What differs, in words; empty if nothing does.

    Raises
    ------
    InputError
        If the folder is not an export.
    """
    try:
        manifest = parse_model(ExportManifest, read_file(folder / MANIFEST))
    except OSError as error:
        raise InputError(f"{folder}: not an export: {MANIFEST}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{folder / MANIFEST}: {error}") from error
    params = manifest.parameters.params()
    form = Form.of(params)
    names, gates = verifiers.NAMES[form], form.gates(params)
    keys = {}
    for file, circuit in form.circuits(params).items():
        shown = f"keys/{names[file]}.vk"
        try:
            keys[file] = read_file(folder / shown)
        except OSError as error:
            return [f"{shown}: {error.strerror}"]
        if hashlib.sha256(keys[file]).hexdigest() != expected_key_hash(circuit, gates[file], tools):
            return [f"{shown}: not the verification key of these parameters, so the verifier is not theirs either"]
    checked: Verification | None = None
    if (bundle := folder / BUNDLE).is_dir():
        checked = verify(bundle, tools)
        if not checked.ok or checked.round is None:
            return [f"{BUNDLE}: {checked.reason}"]
        if checked.round.params != params:
            return [f"{BUNDLE}: of other parameters than the export"]
    if manifest.start is not None and not (checked and form is Form.SHARDED and 0 <= manifest.start <= params.chunks):
        return [f"{MANIFEST}: start: {manifest.start} is no shard of this round"]
    optimized = manifest.verifier == "optimized"
    rendered = _render(params, keys, tools, optimized=optimized, fresh=True)
    expected = rendered.files
    if checked:
        expected |= _of_bundle(bundle, checked, rendered, manifest.start, optimized)[0]
    expected[MANIFEST] = _manifest(params, expected, rendered.sizes, optimized, manifest.start)
    return _compare(folder, expected)


def filled_in(folder: Path) -> dict[str, Any]:
    """Return the constructor arguments of an export that are a deployer's decisions and no longer the template's."""
    manifest = parse_model(ExportManifest, read_file(folder / MANIFEST))
    template = constructor_template(manifest.parameters.params())
    found = parse_json(read_file(folder / CONSTRUCTOR))
    return {name: found[name] for name in template if found[name] != template[name]}


def _is_filled(template: bytes, found: bytes) -> bool:
    """Tell whether constructor arguments are the template's, with values for what it leaves open, and any schedule."""

    def is_value(x: Any) -> bool:
        values = x if isinstance(x, list) and len(x) <= LISTED_MAX else [x]
        return all(isinstance(v, (str, int)) and len(str(v)) <= VALUE_MAX and str(v).isprintable() for v in values)

    def fits(ours: Any, theirs: Any) -> bool:
        if isinstance(ours, dict):
            same = isinstance(theirs, dict) and ours.keys() == theirs.keys()
            return same and all(fits(ours[name], theirs[name]) for name in ours)
        same = type(ours) is type(theirs) and ours == theirs
        return same or (ours is None and (theirs is None or is_value(theirs)))

    try:
        arguments = parse_json(found)
    except ValueError:
        return False
    open_ = json.loads(template)
    schedule = arguments.get("schedule_") if isinstance(arguments, dict) else None
    times = isinstance(schedule, dict) and all(type(x) is int and 0 < x < 2**64 for x in schedule.values())
    return times and fits({**open_, "schedule_": dict.fromkeys(open_["schedule_"])}, arguments)


def _compare(folder: Path, expected: Files) -> list[str]:
    differences, present = [], _present(folder)
    for name in sorted(present | set(expected)):
        shown = name if name.isprintable() else ascii(name)
        if name not in expected:
            differences.append(f"{shown}: not part of the export")
        elif name not in present:
            differences.append(f"{shown}: missing")
        else:
            try:
                found = read_file(folder / name)
                filled = name == CONSTRUCTOR and _is_filled(expected[name], found)
                if found != expected[name] and not filled:
                    differences.append(f"{shown}: differs from what this zkkrum renders")
            except OSError as error:
                differences.append(f"{shown}: {error.strerror}")
    return differences
