"""The Solidity side without tools: sources, settings, encoding, and the missing extra."""

from __future__ import annotations

import hashlib
import re
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from zkkrum.errors import ToolMissingError
from zkkrum.evm import solidity
from zkkrum.evm.chain import Chain
from zkkrum.evm.export import constructor_template
from zkkrum.protocol.challenge import FIRST_LINK
from zkkrum.protocol.field import P
from zkkrum.protocol.params import N_MAX, PROTOCOL, Params, clip_bits


def test_the_contract_states_the_constants_of_the_package() -> None:
    text = solidity.source("KrumRounds.sol")
    assert f"P = {P:#x};" in text
    assert f'PROTOCOL = "{PROTOCOL}";' in text
    assert f"MAX_CLIENTS = {N_MAX};" in text
    assert f"bytes32[{N_MAX}] commitments;" in text
    assert f"FIRST_LINK = {FIRST_LINK:#066x};" in text
    assert f"EMPTY_SHA256 = 0x{hashlib.sha256().hexdigest()};" in text


@pytest.mark.parametrize("name", solidity.ROUNDS_SOURCES)
def test_every_public_item_of_the_contracts_is_documented(name: str) -> None:
    lines = solidity.source(name).splitlines()
    for above, line in pairwise(lines):
        if re.match(r"    (error|event|enum|struct|constructor|function \w+\(.*(external|public)?)", line):
            private = "private" in "".join(lines[lines.index(line) : lines.index(line) + 6]).split("{")[0]
            assert private or above.strip().startswith("///"), line


@pytest.mark.parametrize("name", [*solidity.ROUNDS_SOURCES, *solidity.DEMO_SOURCES])
def test_sources_have_licence_and_title(name: str) -> None:
    text = solidity.source(name)
    assert text.startswith("// SPDX-License-Identifier: Apache-2.0\npragma solidity ^0.8.30;\n")
    assert "/// @title " in text


def test_the_words_never_claim_proved_malice() -> None:
    text = solidity.source("KrumRounds.sol")
    assert '"flagged under rule "' in text
    assert "never that malice was proved" in text
    assert not re.search(r"proved (malicious|guilty|dishonest)", text)


def test_calls_are_encoded_as_the_abi_says() -> None:
    eth_abi = pytest.importorskip("eth_abi")
    for proof in (b"", b"\1", bytes(range(32)), bytes(100)):
        for words in ([], [1], [P - 1, 0, 7]):
            ours = solidity.encode_call(b"\1\2\3\4", 5, proof, words, P - 1)
            assert ours[:4] == b"\1\2\3\4"
            assert ours[4:] == eth_abi.encode(["uint256", "bytes", "uint256[]", "uint256"], [5, proof, words, P - 1])
            shard, outputs = (proof, words, 7), (1, 2, P - 1)
            kinds = ["(bytes,uint256[],uint256)[]", "(uint256,uint256,uint256)", "uint256[]"]
            for batch in ([], [shard], [shard, (b"x", [3], 0)]):
                ours = solidity.encode_call(b"", batch, outputs, words)
                assert ours == eth_abi.encode(kinds, [batch, outputs, words])


def test_the_verifier_is_compiled_for_size_and_both_for_one_fork() -> None:
    verifier, rounds = solidity.verifier_input("contract A {}"), solidity.rounds_input()
    assert verifier["settings"]["optimizer"] == {"enabled": True, "runs": 1}
    assert rounds["settings"]["optimizer"]["enabled"]
    assert verifier["settings"]["evmVersion"] == rounds["settings"]["evmVersion"] == "cancun"


def test_the_compiler_is_asked_once_a_machine_and_every_time_where_that_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZKKRUM_CACHE", str(tmp_path))
    asked = []

    def solc(wanted: dict[str, Any]) -> dict[str, Any]:
        asked.append(wanted)
        code = {"object": "60"}
        evm = {"bytecode": code, "deployedBytecode": code, "methodIdentifiers": {"f()": "01020304"}}
        return {"contracts": {"A.sol": {"A": {"abi": [], "evm": evm}}}}

    def anew(**options: bool) -> solidity.Contract:
        solidity._compiled.clear()  # as another process
        return solidity.compile_input(solc, {"a": 1}, **options)["A"]

    assert anew() == anew() == anew()
    assert len(asked) == 1
    assert anew(fresh=True) == anew(fresh=True)
    assert len(asked) == 3
    [kept] = (tmp_path / "solidity").iterdir()
    kept.write_bytes(kept.read_bytes().replace(b"60", b"61"))  # damaged: compiled again, and put right
    assert anew().bytecode == b"\x60"
    assert len(asked) == 4
    assert anew().bytecode == b"\x60"
    assert len(asked) == 4
    solidity._compiled.clear()


def test_libraries_are_linked_where_they_belong() -> None:
    contract = solidity.Contract("C", [], b"\xaa" * 30, 30, {}, {"L": (2, 8)})
    linked = contract.linked({"L": "0x" + "11" * 20})
    assert linked.bytecode == b"\xaa" * 2 + b"\x11" * 26 + b"\xaa" * 2
    assert linked.links == {}


def test_the_constructor_template_holds_the_circuit_and_leaves_the_rest_open() -> None:
    template = constructor_template(Params.of(n=10, d=540, z=Fraction(9, 2)))
    assert template["circuit"]["score"] == "0x" + b"krum-2017".hex().ljust(64, "0")
    assert (template["circuit"]["zNumerator"], template["circuit"]["zDenominator"]) == (9, 2)
    nobody = "0x" + "00" * 20
    assert template["circuit"]["acceptance"] == "0x" + b"unflagged".hex().ljust(64, "0")
    assert template["verifiers_"] == {"round": None, "shard": nobody, "lastShard": nobody, "verdict": nobody}
    assert set(template["slashing_"].values()) == {None}
    assert template["schedule_"]["openToSlashable"] == 7 * 24 * 3600
    sharded = constructor_template(Params.of(n=10, d=540, chunk=252))["verifiers_"]
    assert sharded == {"round": nobody, "shard": None, "lastShard": None, "verdict": None}
    even = constructor_template(Params.of(n=10, d=504, chunk=252))["verifiers_"]
    assert even == {"round": nobody, "shard": None, "lastShard": nobody, "verdict": None}


@pytest.mark.parametrize(
    ("clip", "bits"), [(1.0, 0x3FF0 << 48), (5e-324, 1), (1.7976931348623157e308, (0x7FF0 << 48) - 1)]
)
def test_clip_is_its_binary64_pattern(clip: float, bits: int) -> None:
    assert clip_bits(clip) == bits


@pytest.mark.parametrize("missing", ["pyrevm", "eth_abi"])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    modules: dict[str, Any] = {missing: None}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    if missing == "pyrevm":
        pytest.importorskip("eth_abi")
    with pytest.raises(ToolMissingError, match=missing) as caught:
        Chain()
    assert "zkkrum[evm]" in str(caught.value)
