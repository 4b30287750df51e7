"""The EVM in this process: reverts and their data, errors by ABI, halts. Contracts here are a few bytes by hand."""

from __future__ import annotations

from typing import Any

import pytest

from zkkrum.errors import ToolFailedError
from zkkrum.evm.chain import Chain, Deployed, HaltError, RevertError, _revert_data
from zkkrum.evm.solidity import Contract

pytest.importorskip("pyrevm", reason="needs zkkrum[evm]: wheels for CPython 3.11 and 3.12 only")
eth_abi: Any = pytest.importorskip("eth_abi", reason="needs zkkrum[evm]")

SENDER, HERE = "0x" + "0a" * 20, "0x" + "bb" * 20
ECHO = bytes.fromhex("365f5f37365ffd")
"""CALLDATASIZE 0 0 CALLDATACOPY, CALLDATASIZE 0 REVERT: reverts with whatever it is sent."""
ABI = [
    {"type": "error", "name": "Late", "inputs": [{"name": "by", "type": "uint256"}, {"name": "who", "type": "string"}]}
]


@pytest.fixture
def chain() -> Chain:
    chain = Chain()
    chain.place(HERE, ECHO)
    return chain


@pytest.mark.parametrize("data", [b"", b"\x01", bytes(range(256)), b"}" * 40])
def test_a_revert_carries_its_data(chain: Chain, data: bytes) -> None:
    for attempt in (lambda: chain.send(SENDER, HERE, data), lambda: chain.call(HERE, data)):
        with pytest.raises(RevertError) as caught:
            attempt()
        assert caught.value.data == data


def test_so_does_a_constructor(chain: Chain) -> None:
    with pytest.raises(RevertError) as caught:
        chain.deploy(SENDER, bytes.fromhex("63deadbeef5f526004601cfd"))
    assert caught.value.data == bytes.fromhex("deadbeef")


def revert_of(chain: Chain, signature: str, types: list[str], values: list[object]) -> RevertError:
    data = chain.keccak(signature.encode())[:4] + eth_abi.encode(types, values)
    contract = Deployed(chain, Contract("Echo", ABI, b"", 0, {}), HERE)
    with pytest.raises(RevertError) as caught:
        chain.send(SENDER, HERE, data)
    return contract._named(caught.value)


@pytest.mark.parametrize(
    ("name", "types", "values"),
    [
        ("Late", ["uint256", "string"], [7, "alice"]),
        ("Error", ["string"], ["no reason"]),
        ("Panic", ["uint256"], [0x11]),
    ],
)
def test_errors_are_decoded_by_the_abi(chain: Chain, name: str, types: list[str], values: list[object]) -> None:
    """Those a contract declares, and the two that Solidity reverts with by itself."""
    error = revert_of(chain, f"{name}({','.join(types)})", types, values)
    assert (error.error, list(error.arguments)) == (name, values)


def test_an_error_of_nobody_keeps_its_data(chain: Chain) -> None:
    error = revert_of(chain, "Unheard()", [], [])
    assert error.error == ""
    assert error.data == chain.keccak(b"Unheard()")[:4]


def test_a_halt_is_no_revert(chain: Chain) -> None:
    chain.place(HERE, bytes.fromhex("fe"))
    with pytest.raises(HaltError, match="InvalidFEOpcode"):
        chain.send(SENDER, HERE, b"")
    chain.place(HERE, bytes.fromhex("5b5f56"))
    with pytest.raises(HaltError, match="OutOfGas"):
        chain.send(SENDER, HERE, b"", gas=50_000)


@pytest.mark.parametrize("words", ["Revert", "Revert { gas_used: 1, output: 0xzz }"])
def test_other_words_of_pyrevm_are_not_guessed_at(words: str) -> None:
    with pytest.raises(ToolFailedError, match="pyrevm: expected"):
        _revert_data(RuntimeError(words))
