"""The Solidity side as artefacts: sources, compiler settings, compiled contracts, encoded calls.

Must not know a chain or a round; compiling is handed in (`Toolchain.solc`), so this needs no extra.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any, TypeAlias

from zkkrum.protocol.params import Params, id_word
from zkkrum.toolchain import cache

Solc = Callable[[dict[str, Any]], dict[str, Any]]
"""Compiles a standard-JSON input; raises if a source does not compile."""

CODE_SIZE_MAX = 24_576
"""Largest runtime code of a contract, in bytes (EIP-170)."""
EVM_VERSION = "cancun"
"""Oldest fork the contracts run on: transient storage (EIP-1153) and MCOPY (EIP-5656)."""
ROUNDS_RUNS = 200
VERIFIER_RUNS = 1
"""Optimizer setting for the verifiers: for size. More runs do not make their assembly cheaper."""

ROUNDS_SOURCES = ("KrumRounds.sol", "SlashingRouter.sol", "ISlasher.sol", "IVerifier.sol")
DEMO_SOURCES = ("demo/MockSlasher.sol", "demo/PlainKrum.sol")
"""A slasher to play with, and Krum computed on chain, to compare costs with."""
VERIFIER_SOURCE = "Verifier.sol"
VERIFIER_CONTRACT = "HonkVerifier"
"""Name bb gives the contract in what it renders."""


@dataclass(frozen=True)
class Contract:
    """A compiled contract.

    Parameters
    ----------
    name
        As in the source.
    abi
        Its ABI.
    bytecode
        Creation code, without constructor arguments.
    size
        Bytes of runtime code.
    selectors
        Four bytes by function name.
    links
        Where addresses of libraries go in the creation code, by library (the plain verifier has one).
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    size: int
    selectors: Mapping[str, bytes]
    links: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether a chain accepts it."""
        return self.size <= CODE_SIZE_MAX

    def linked(self, libraries: Mapping[str, str]) -> Contract:
        """Return it with the addresses of its libraries filled in."""
        code = bytearray(self.bytecode)
        for name, offsets in self.links.items():
            for start in offsets:
                code[start : start + 20] = bytes.fromhex(libraries[name].removeprefix("0x"))
        return replace(self, bytecode=bytes(code), links={})


def source(name: str) -> str:
    """Return the text of one of the package's own sources, such as ``KrumRounds.sol``."""
    return files("zkkrum").joinpath("contracts", *name.split("/")).read_text("utf-8")


def standard_json(sources: Mapping[str, str], runs: int, *, via_ir: bool) -> dict[str, Any]:
    """Return solc's standard-JSON input.

    Parameters
    ----------
    sources
        Text by file name.
    runs
        The optimizer's ``runs``.
    via_ir
        Whether to compile through solc's intermediate representation: smaller code for Solidity, nothing for assembly.
    """
    evm = ("bytecode.object", "bytecode.linkReferences", "deployedBytecode.object", "methodIdentifiers")
    outputs = ["abi", *(f"evm.{output}" for output in evm)]
    return {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": {
            "optimizer": {"enabled": True, "runs": runs},
            "viaIR": via_ir,
            "evmVersion": EVM_VERSION,
            "outputSelection": {"*": {"*": outputs}},
        },
    }


def compile_input(solc: Solc, wanted: dict[str, Any], *, fresh: bool = False) -> dict[str, Contract]:
    """Compile and return the contracts by name, interfaces included (their code is empty).

    The compiler is pinned and deterministic, so the same input is compiled once, and its output kept in the cache.

    Parameters
    ----------
    solc
        See `Solc`.
    wanted
        solc's standard-JSON input.
    fresh
        Whether to compile it whatever the cache says, and take nothing from it.
    """
    pins = files("zkkrum").joinpath("toolchain", "node", "package-lock.json").read_bytes()
    key = hashlib.sha256(pins + json.dumps(wanted).encode()).hexdigest()
    if fresh:
        return _contracts(solc(wanted))
    if key not in _compiled:
        _compiled[key] = _contracts(_kept(key) or _keep(key, solc(wanted)))
    return dict(_compiled[key])


_compiled: dict[str, dict[str, Contract]] = {}
FOLDER = "solidity"


def _kept(key: str) -> dict[str, Any] | None:
    """Return solc's output from the cache, if it is whole: it begins with its own SHA-256."""
    for path in cache.find(FOLDER, key):
        try:
            digest, _, output = path.read_bytes().partition(b"\n")
        except OSError:
            continue
        if hashlib.sha256(output).hexdigest().encode() == digest:
            found: dict[str, Any] = json.loads(output)
            return found
    return None


def _keep(key: str, output: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps({"contracts": output["contracts"]}).encode()
    cache.write(cache.place(FOLDER, key), hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
    return output


def _contracts(output: dict[str, Any]) -> dict[str, Contract]:
    """Read solc's standard-JSON output."""
    compiled = {}
    for contracts in output["contracts"].values():
        for name, found in contracts.items():
            evm = found["evm"]
            links = {
                library: tuple(place["start"] for place in places)
                for libraries in evm["bytecode"].get("linkReferences", {}).values()
                for library, places in libraries.items()
            }
            compiled[name] = Contract(
                name,
                found["abi"],
                bytes.fromhex(re.sub(r"__\$[0-9a-f]{34}\$__", "0" * 40, evm["bytecode"]["object"])),
                len(evm["deployedBytecode"]["object"]) // 2,
                {k.split("(")[0]: bytes.fromhex(v) for k, v in evm["methodIdentifiers"].items()},
                links,
            )
    return compiled


def rounds_input(more: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the compiler input of `KrumRounds` and `SlashingRouter`, and of a caller's sources (text by name)."""
    own = {name: source(name) for name in ROUNDS_SOURCES}
    return standard_json({**own, **(more or {})}, ROUNDS_RUNS, via_ir=True)


def verifier_input(text: str) -> dict[str, Any]:
    """Return the compiler input of a verifier that bb rendered."""
    return standard_json({VERIFIER_SOURCE: text}, VERIFIER_RUNS, via_ir=False)


def compile_rounds(solc: Solc, more: Mapping[str, str] | None = None, *, fresh: bool = False) -> dict[str, Contract]:
    """Compile `KrumRounds` and what stands beside it, and more sources of a caller that may import them."""
    return compile_input(solc, rounds_input(more), fresh=fresh)


def demo_sources() -> dict[str, str]:
    """Return the sources of the demo's contracts, by name."""
    return {name: source(name) for name in DEMO_SOURCES}


def compile_verifier(solc: Solc, text: str, *, fresh: bool = False) -> tuple[Contract, dict[str, Contract]]:
    """Compile a verifier that bb rendered.

    Returns
    -------
    Contract, dict of Contract
        The verifier, and the libraries to deploy first and link (none but for the plain one).
    """
    compiled = compile_input(solc, verifier_input(text), fresh=fresh)
    verifier = compiled[VERIFIER_CONTRACT]
    return verifier, {name: compiled[name] for name in verifier.links}


def circuit_words(params: Params) -> dict[str, Any]:
    """Return the contract's ``Constants`` for a circuit, by field name."""
    p = params
    return {
        "score": id_word(p.score.value),
        "detection": id_word(p.detection.value),
        "acceptance": id_word(p.acceptance.value),
        "n": p.n,
        "d": p.d,
        "b": p.b,
        "chunk": p.chunk,
        "f": p.f,
        "m": p.m,
        "zNumerator": p.z.numerator,
        "zDenominator": p.z.denominator,
        "gammaNumerator": p.gamma.numerator,
        "gammaDenominator": p.gamma.denominator,
    }


def verifier_errors(text: str) -> dict[bytes, str]:
    """Return the errors that a rendered verifier reverts with, by selector: its ABI does not list them.

    Examples
    --------
    >>> verifier_errors("bytes4 internal constant SUMCHECK_FAILED_SELECTOR = 0x9fc3a218;")
    {b'\\x9f\\xc3\\xa2\\x18': 'SumcheckFailed'}
    """
    found = re.findall(r"constant (\w+)_SELECTOR = 0x([0-9a-f]{8});", text)
    return {bytes.fromhex(selector): name.title().replace("_", "") for name, selector in found}


Encodable: TypeAlias = "int | bytes | Sequence[Encodable]"
"""A word, a byte string, an array (list) or a struct (tuple), as `encode_call` takes them."""


def encode_call(selector: bytes, *arguments: Encodable) -> bytes:
    """Encode a call as the contract ABI lays it out.

    Parameters
    ----------
    selector
        Four bytes.
    arguments
        ``int`` for a static word, ``bytes`` for ``bytes``, a list for an array, a tuple for a struct.

    Examples
    --------
    >>> encode_call(b"\\x01\\x02\\x03\\x04", 7).hex()[-2:]
    '07'
    >>> len(encode_call(b"\\x01\\x02\\x03\\x04", [(b"proof", [1, 2], 3)]))
    356
    """
    return selector + _sequence(arguments)


def _word(x: int) -> bytes:
    return x.to_bytes(32, "big")


def _sequence(values: Sequence[Encodable]) -> bytes:
    """Encode values one after the other: static ones in place, for dynamic ones the offset of where they stand."""
    parts = [(_is_dynamic(value), _encoded(value)) for value in values]
    offset = sum(32 if dynamic else len(data) for dynamic, data in parts)
    head, tail = b"", b""
    for dynamic, data in parts:
        head += _word(offset + len(tail)) if dynamic else data
        tail += data if dynamic else b""
    return head + tail


def _is_dynamic(value: Encodable) -> bool:
    return any(map(_is_dynamic, value)) if isinstance(value, tuple) else not isinstance(value, int)


def _encoded(value: Encodable) -> bytes:
    if isinstance(value, int):
        return _word(value)
    if isinstance(value, bytes):
        return _word(len(value)) + value + bytes(-len(value) % 32)
    return (b"" if isinstance(value, tuple) else _word(len(value))) + _sequence(value)
