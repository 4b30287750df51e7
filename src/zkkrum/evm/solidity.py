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
from typing import Any

from zkkrum.protocol.params import Params

Solc = Callable[[dict[str, Any]], dict[str, Any]]
"""Compiles a standard-JSON input; raises if a source does not compile."""

CODE_SIZE_MAX = 24_576
"""Largest runtime code of a contract, in bytes (EIP-170)."""
EVM_VERSION = "cancun"
"""Oldest fork the contracts run on: transient storage (EIP-1153) and MCOPY (EIP-5656)."""
ROUNDS_RUNS = 200
VERIFIER_RUNS = 1
"""Optimizer setting for the verifier: for size. More runs do not make its assembly cheaper."""

ROUNDS_SOURCES = ("KrumRounds.sol", "ISlasher.sol", "IVerifier.sol")
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


def standard_json(sources: Mapping[str, str], runs: int) -> dict[str, Any]:
    """Return solc's standard-JSON input.

    Parameters
    ----------
    sources
        Text by file name.
    runs
        The optimizer's ``runs``.
    """
    evm = ("bytecode.object", "bytecode.linkReferences", "deployedBytecode.object", "methodIdentifiers")
    outputs = ["abi", *(f"evm.{output}" for output in evm)]
    return {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": {
            "optimizer": {"enabled": True, "runs": runs},
            "evmVersion": EVM_VERSION,
            "outputSelection": {"*": {"*": outputs}},
        },
    }


def compile_sources(solc: Solc, sources: Mapping[str, str], runs: int) -> dict[str, Contract]:
    """Compile and return the contracts by name, interfaces included (their code is empty).

    The compiler is pinned and deterministic, so this process compiles the same input once.
    """
    wanted = standard_json(sources, runs)
    key = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()
    if key not in _compiled:
        _compiled[key] = _contracts(solc(wanted))
    return dict(_compiled[key])


_compiled: dict[str, dict[str, Contract]] = {}


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


def rounds_input() -> dict[str, Any]:
    """Return the compiler input of `KrumRounds`."""
    return standard_json({name: source(name) for name in ROUNDS_SOURCES}, ROUNDS_RUNS)


def verifier_input(text: str) -> dict[str, Any]:
    """Return the compiler input of a verifier that bb rendered."""
    return standard_json({VERIFIER_SOURCE: text}, VERIFIER_RUNS)


def compile_rounds(solc: Solc, more: Mapping[str, str] | None = None) -> dict[str, Contract]:
    """Compile `KrumRounds` and its interfaces, and more sources of a caller (text by name) that may import them."""
    own = {name: source(name) for name in ROUNDS_SOURCES}
    return compile_sources(solc, {**own, **(more or {})}, ROUNDS_RUNS)


def demo_sources() -> dict[str, str]:
    """Return the sources of the demo's contracts, by name."""
    return {name: source(name) for name in DEMO_SOURCES}


def compile_verifier(solc: Solc, text: str) -> tuple[Contract, dict[str, Contract]]:
    """Compile a verifier that bb rendered.

    Returns
    -------
    Contract, dict of Contract
        The verifier, and the libraries to deploy first and link (none but for the plain one).
    """
    compiled = compile_sources(solc, {VERIFIER_SOURCE: text}, VERIFIER_RUNS)
    verifier = compiled[VERIFIER_CONTRACT]
    return verifier, {name: compiled[name] for name in verifier.links}


def circuit_words(params: Params) -> dict[str, Any]:
    """Return the contract's ``Constants`` for a circuit, by field name."""
    p = params
    return {
        "score": p.score.value.encode("ascii").ljust(32, b"\0"),
        "detection": p.detection.value.encode("ascii").ljust(32, b"\0"),
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


def encode_call(selector: bytes, *arguments: int | bytes | Sequence[int]) -> bytes:
    """Encode a call whose arguments are words, byte strings or arrays of words, as the contract ABI lays them out.

    Parameters
    ----------
    selector
        Four bytes.
    arguments
        ``int`` for a static word, ``bytes`` for ``bytes``, a sequence of ``int`` for ``bytes32[]`` or ``uint256[]``.

    Examples
    --------
    >>> encode_call(b"\\x01\\x02\\x03\\x04", 7).hex()[-2:]
    '07'
    """

    def word(x: int) -> bytes:
        return x.to_bytes(32, "big")

    head, tail = b"", b""
    for argument in arguments:
        if isinstance(argument, int):
            head += word(argument)
            continue
        head += word(32 * len(arguments) + len(tail))
        if isinstance(argument, bytes):
            tail += word(len(argument)) + argument + bytes(-len(argument) % 32)
        else:
            tail += word(len(argument)) + b"".join(map(word, argument))
    return selector + head + tail
