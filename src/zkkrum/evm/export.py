"""Export for a chain: the verifier of a shape, `KrumRounds` bound to the same constants, and a bundle's calldata.

Must not print, and needs no EVM. Everything but the proof follows from the round's constants and the installed
package, so `check` renders it again and compares byte by byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from zkkrum.errors import InputError, ToolFailedError
from zkkrum.evm import solidity
from zkkrum.evm.solidity import CODE_SIZE_MAX, VERIFIER_CONTRACT, Contract, encode_call
from zkkrum.files import whole_folder
from zkkrum.proof.build import build, verification_key
from zkkrum.proof.bundle import read_manifest
from zkkrum.proof.circuit import round_circuit
from zkkrum.proof.form import PROOF, VK, Form
from zkkrum.proof.keys import expected_key_hash
from zkkrum.proof.statement import round_words
from zkkrum.proof.verify import verify
from zkkrum.protocol.field import from_hex, to_bytes, to_hex
from zkkrum.protocol.forecast import round_gates
from zkkrum.protocol.params import Params
from zkkrum.rounds.roundfile import ParametersFile, RoundFile, Strict, first_problem
from zkkrum.toolchain import PAIR, Toolchain
from zkkrum.version import __version__

FORMAT: Final = "zkkrum-export-1"
MANIFEST, CALLDATA, VERIFY_HEX, SUBMIT_HEX = "export.json", "calldata.json", "calldata.hex", "submit.hex"
Files = dict[str, bytes]


class ExportManifest(Strict):
    """``export.json``: what the folder is for. `check` takes from it only the parameters and the kind of verifier."""

    format: Literal["zkkrum-export-1"]
    zkkrum: str
    noir: str
    bb: str
    verifier: Literal["optimized", "plain"]
    parameters: ParametersFile
    key_sha256: str
    runtime_bytes: dict[str, int]
    files: dict[str, str]


class NamedInput(Strict):
    """A public input with its name, in the order the verifier takes them."""

    name: str
    value: str


class Calldata(Strict):
    """``calldata.json``: a proof for the chain, by name and as the two calls that carry it."""

    round: RoundFile
    proof: str
    public_inputs: list[NamedInput]
    submit: dict[str, str]
    verify: dict[str, str]


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
        Bytes of runtime code by contract; a chain accepts `CODE_SIZE_MAX`.
    bound
        Whether the bundle was proved for a contract on a chain; calldata of any other serves the verifier alone.
        None without a bundle.
    """

    folder: Path
    files: tuple[str, ...]
    sizes: Mapping[str, int]
    bound: bool | None


def _text(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _artifact(contract: Contract) -> bytes:
    """Return ABI and creation code; addresses of libraries are to be put at the byte offsets of ``links``."""
    links = {name: list(offsets) for name, offsets in contract.links.items()}
    code = "0x" + contract.bytecode.hex()
    return _text({"contractName": contract.name, "abi": contract.abi, "bytecode": code, "links": links})


def constructor_template(params: Params) -> dict[str, Any]:
    """Return the constructor arguments of `KrumRounds`: the circuit's filled in, yours null."""
    slashing = ("slasher", "avs", "operatorSetId", "challengeDelay", "strategies", "wadsToSlash")
    words = solidity.circuit_words(params)
    return {
        "verifier": None,
        "circuit": {k: "0x" + v.hex() if isinstance(v, bytes) else v for k, v in words.items()},
        "slashing": dict.fromkeys(slashing),
        "operator": None,
        "vetoer": None,
    }


def render(params: Params, key: bytes, tools: Toolchain, *, optimized: bool = True) -> tuple[Files, dict[str, int]]:
    """Render and compile everything that follows from the constants and their key.

    Returns
    -------
    files, sizes
        Content by relative name; bytes of runtime code by contract.

    Raises
    ------
    ToolFailedError
        If a contract is larger than a chain accepts.
    """
    text = tools.bb.write_solidity_verifier(key, optimized=optimized)
    verifier, libraries = solidity.compile_verifier(tools.solc, text)
    rounds = solidity.compile_rounds(tools.solc)
    deployed = {VERIFIER_CONTRACT: verifier, **libraries, "KrumRounds": rounds["KrumRounds"]}
    for contract in deployed.values():
        if not contract.fits:
            raise ToolFailedError(
                f"{contract.name} has {contract.size:,} bytes of code; a chain accepts {CODE_SIZE_MAX:,}",
                "the optimized verifier is smaller; leave out --plain-verifier",
            )
    sizes = {name: contract.size for name, contract in deployed.items()}
    files = {
        "vk": key,
        solidity.VERIFIER_SOURCE: text.encode(),
        **{name: solidity.source(name).encode() for name in solidity.ROUNDS_SOURCES},
        "compiler/Verifier.json": _text(solidity.verifier_input(text)),
        "compiler/KrumRounds.json": _text(solidity.rounds_input()),
        "constructor.json": _text(constructor_template(params)),
        **{f"artifacts/{name}.json": _artifact(contract) for name, contract in deployed.items()},
        "artifacts/ISlasher.json": _artifact(rounds["ISlasher"]),
    }
    manifest = ExportManifest(
        format=FORMAT,
        zkkrum=__version__,
        noir=PAIR.noir,
        bb=PAIR.bb,
        verifier="optimized" if optimized else "plain",
        parameters=ParametersFile.of(params),
        key_sha256=hashlib.sha256(key).hexdigest(),
        runtime_bytes=sizes,
        files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    )
    return {**files, MANIFEST: (manifest.model_dump_json(indent=2) + "\n").encode()}, sizes


def calldata(round_file: RoundFile, words: Sequence[tuple[str, int]], proof: bytes, tools: Toolchain) -> Files:
    """Return the calldata of a proof: named, and as the calls of `KrumRounds.submit` and of the verifier alone."""
    rounds = solidity.compile_rounds(tools.solc)
    values = [value for _, value in words]
    round_id = int(round_file.round_id, 16)
    submit = encode_call(rounds["KrumRounds"].selectors["submit"], round_id, proof, *values[-3:])
    raw = encode_call(rounds["IVerifier"].selectors["verify"], proof, values)
    named = Calldata(
        round=round_file,
        proof="0x" + proof.hex(),
        public_inputs=[NamedInput(name=name, value=to_hex(value)) for name, value in words],
        submit={
            "to": "KrumRounds" if int(round_file.contract, 16) == 0 else round_file.contract,
            "function": "submit(bytes32,bytes,uint256,uint256,uint256)",
            "roundId": round_file.round_id,
            **{name: str(value) for name, value in words[-3:]},
            "data": "0x" + submit.hex(),
        },
        verify={"to": VERIFIER_CONTRACT, "function": "verify(bytes,bytes32[])", "data": "0x" + raw.hex()},
    )
    return {
        CALLDATA: (named.model_dump_json(indent=2) + "\n").encode(),
        VERIFY_HEX: f"0x{raw.hex()}\n".encode(),
        SUBMIT_HEX: f"0x{submit.hex()}\n".encode(),
    }


def export_shape(params: Params, out: Path, tools: Toolchain, *, optimized: bool = True) -> Exported:
    """Export the contracts of a shape. Needs the reference string unless the key is in the cache.

    Raises
    ------
    InputError
        If ``out`` holds something else.
    ReferenceStringError, ToolFailedError
    """
    key = verification_key(build(round_circuit(params), tools), tools)
    files, sizes = render(params, key, tools, optimized=optimized)
    return _write(out, files, sizes, None)


def export_bundle(path: Path, out: Path, tools: Toolchain, *, optimized: bool = True) -> Exported:
    """Verify a bundle, then export the contracts of its shape and its calldata. Needs no reference string for it.

    Raises
    ------
    InputError
        If the bundle is not valid or sharded, or ``out`` holds something else.
    """
    checked = verify(path, tools)
    if not checked.ok or checked.round is None or checked.verdict is None:
        raise InputError(f"{path}: refusing to export a bundle that does not verify: {checked.reason}")
    if checked.form != Form.ROUND:
        raise InputError(
            f"{path}: a sharded bundle cannot be verified on chain",
            "only rounds that fit one circuit can; `zkkrum estimate` tells which do",
        )
    manifest = read_manifest(path)
    words = round_words(checked.round, [from_hex(c.commitment) for c in manifest.commitments], checked.verdict)
    files, sizes = render(checked.round.params, (path / VK).read_bytes(), tools, optimized=optimized)
    files |= calldata(manifest.round, words, (path / PROOF).read_bytes(), tools)
    return _write(out, files, sizes, any(checked.round.contract))


def _write(out: Path, files: Files, sizes: Mapping[str, int], bound: bool | None) -> Exported:
    if out.exists() and not _is_export(out) and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not an export", "choose another path with -o")
    with whole_folder(out) as folder:
        for name, data in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
    return Exported(out, tuple(sorted(files)), sizes, bound)


def _is_export(folder: Path) -> bool:
    """Tell whether a folder is an export and nothing more, as far as names tell, so that it may be replaced."""
    try:
        ExportManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return False
    kinds = {".sol", ".json", ".hex", ".bin", ""}
    return all(path.suffix in kinds for path in folder.rglob("*") if path.is_file())


def check(folder: Path, tools: Toolchain) -> list[str]:
    """Render an export again from its parameters and compare.

    Returns
    -------
    list of str
        What differs, in words; empty if nothing does. Calldata, where present, is encoded again from its own
        named inputs, and its proof verified.

    Raises
    ------
    InputError
        If the folder is not an export.
    """
    try:
        manifest = ExportManifest.model_validate_json((folder / MANIFEST).read_bytes())
        params = manifest.parameters.params()
        key = (folder / "vk").read_bytes()
    except OSError as error:
        raise InputError(f"{folder}: not an export: {error.filename}: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"{folder / MANIFEST}: {first_problem(error)}") from error
    if hashlib.sha256(key).hexdigest() != expected_key_hash(round_circuit(params), round_gates(params), tools):
        return ["vk: not the verification key of these parameters, so the verifier is not theirs either"]
    expected, _ = render(params, key, tools, optimized=manifest.verifier == "optimized")
    differences = []
    if (folder / CALLDATA).is_file():
        try:
            found = Calldata.model_validate_json((folder / CALLDATA).read_bytes())
            words = [(w.name, from_hex(w.value)) for w in found.public_inputs]
            proof = bytes.fromhex(found.proof.removeprefix("0x"))
        except ValueError as error:
            return [f"{CALLDATA}: cannot be read: {error}"]
        round = found.round.round()
        if round.params != params or words[0] != ("context", round.context):
            differences.append(f"{CALLDATA}: not for a round of these parameters")
        if not tools.bb.verify(key, proof, to_bytes(value for _, value in words)):
            differences.append(f"{CALLDATA}: its proof does not hold for its public inputs")
        expected |= calldata(found.round, words, proof, tools)
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name in sorted(present | set(expected)):
        if name not in expected:
            differences.append(f"{name}: not part of the export")
        elif name not in present:
            differences.append(f"{name}: missing")
        elif (folder / name).read_bytes() != expected[name]:
            differences.append(f"{name}: differs from what this zkkrum renders")
    return differences
