"""The Solidity verifiers of a shape: one where all coordinates are one chunk, else two or three, rendered and compiled.

Must not know a chain or a bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from zkkrum.errors import ToolFailedError
from zkkrum.evm.solidity import CODE_SIZE_MAX, Contract, compile_verifier
from zkkrum.proof.build import build, gates, verification_key
from zkkrum.proof.form import VK, VK_LAST, VK_SHARD, Form
from zkkrum.protocol.params import Params
from zkkrum.toolchain import Toolchain

NAMES = {Form.ROUND: {VK: "round"}, Form.SHARDED: {VK: "verdict", VK_SHARD: "shard", VK_LAST: "lastShard"}}
"""What the constructor of `KrumRounds` calls the verifier of each key file."""

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Verifier:
    """One verifier, rendered for a key and compiled.

    Parameters
    ----------
    name
        As `KrumRounds` calls it.
    key, text
        What it was rendered from, and its source.
    contract, libraries
        The code, and the libraries to deploy first and link (none but for the plain one).
    """

    name: str
    key: bytes
    text: str
    contract: Contract
    libraries: Mapping[str, Contract]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of runtime code, by verifier and by its libraries."""
        found = {f"{self.name} verifier": self.contract.size}
        return found | {f"{self.name} {name}": library.size for name, library in self.libraries.items()}


def names_of(params: Params) -> tuple[str, ...]:
    """Return which verifiers a shape has, as `KrumRounds` calls them."""
    form = Form.of(params)
    return tuple(NAMES[form][key] for key in form.circuits(params))


def keys_of(params: Params, tools: Toolchain) -> dict[str, bytes]:
    """Return the verification keys of a shape by file name, compiled unless they are in the cache.

    Raises
    ------
    ReferenceStringError
        If a key must be computed and there are no points for it.
    """
    circuits = Form.of(params).circuits(params)
    return _all(circuits, lambda circuit: verification_key(build(circuit, tools), tools))


def gates_of(params: Params, tools: Toolchain) -> dict[str, int]:
    """Return the gates of a shape's circuits by verifier."""
    form = Form.of(params)
    return {NAMES[form][key]: gates(build(circuit, tools), tools) for key, circuit in form.circuits(params).items()}


def render(
    params: Params, keys: Mapping[str, bytes], tools: Toolchain, *, optimized: bool = True, fresh: bool = False
) -> list[Verifier]:
    """Render and compile the verifiers of a shape from its keys by file name; ``fresh``: taking nothing from the cache.

    Raises
    ------
    ToolFailedError
        If one is larger than a chain accepts.
    """
    names = NAMES[Form.of(params)]

    def one(key: bytes) -> tuple[str, Contract, dict[str, Contract]]:
        text = tools.bb.write_solidity_verifier(key, optimized=optimized)
        return text, *compile_verifier(tools.solc, text, fresh=fresh)

    found = []
    for file, (text, contract, libraries) in _all(keys, one).items():
        for each in (contract, *libraries.values()):
            check_size(each)
        found.append(Verifier(names[file], keys[file], text, contract, libraries))
    return found


def check_size(contract: Contract) -> None:
    """Raise `ToolFailedError` if a contract is larger than a chain accepts."""
    if not contract.fits:
        raise ToolFailedError(
            f"{contract.name} has {contract.size:,} bytes of code; a chain accepts {CODE_SIZE_MAX:,}",
            "this is a bug of zkkrum, or of the compiler's version; please report it",
        )


def _all(inputs: Mapping[str, In], work: Callable[[In], Out]) -> dict[str, Out]:
    """Do the work for every input at once; nearly all of it is done by other processes."""
    with ThreadPoolExecutor(max_workers=len(inputs)) as pool:
        return dict(zip(inputs, pool.map(work, inputs.values()), strict=True))
