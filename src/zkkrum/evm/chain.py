"""A real EVM in this process: deploys, sends, warps time, and counts gas as a chain would.

Must not know what the contracts are for. pyrevm keeps one journal for all calls, in which everything once touched
stays warm; so every transaction here runs in a fresh EVM into which the state so far is put cold.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from zkkrum.errors import ToolFailedError, ZkkrumError
from zkkrum.evm.solidity import Contract
from zkkrum.extras import require

FORK = "CANCUN"
"""What pyrevm is asked for. It takes any name in silence, so `Chain` probes what it got."""
BLOCK_GAS_LIMIT = 2**62
"""So high that measuring is never cut short; compare with a real chain's limit yourself."""
DEVELOPMENT_CHAIN_ID = 31_337
GENESIS_TIME = 1_700_000_000
NOBODY = "0x" + "00" * 20

_ACCOUNT = re.compile(
    r"(0x[0-9a-f]{40}): Account \{ info: AccountInfo \{ balance: (\d+), nonce: (\d+), code_hash: 0x[0-9a-f]{64}, "
    r"code: (?:None|Some\(Bytecode \{ bytecode: 0x([0-9a-f]*), state: "
    r"(?:Raw|Analysed \{ len: (\d+), [^}]*\} \}) \}\)) \}, storage: \{(.*?)\}, status: AccountStatus\(([^)]*)\)"
)
_SLOT = re.compile(r"(\d+): StorageSlot \{ [^}]*present_value: (\d+)")


class RevertError(ZkkrumError):
    """A transaction was refused: the contract reverted.

    Parameters
    ----------
    data
        What it returned.
    error
        Name of the custom error, once known.
    arguments
        Its arguments.
    """

    exit_code = ToolFailedError.exit_code

    def __init__(self, data: bytes, error: str = "", arguments: Sequence[Any] = ()) -> None:
        shown = f"{error}({', '.join(map(str, arguments))})" if error else f"0x{data.hex()}"
        super().__init__(f"the transaction reverted with {shown}")
        self.data = data
        self.error = error
        self.arguments = tuple(arguments)


class HaltError(ZkkrumError):
    """A transaction ended without an answer: out of gas, code too large, an opcode this EVM does not have."""

    exit_code = ToolFailedError.exit_code


@dataclass(frozen=True)
class Log:
    """One event as the chain records it."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True)
class Receipt:
    """What a transaction did.

    Parameters
    ----------
    gas
        Gas used: everything a sender pays, the intrinsic 21,000 and calldata included, refunds deducted.
    output
        What it returned.
    created
        Address of the deployed contract, if any.
    logs
        Its events, in order.
    """

    gas: int
    output: bytes = b""
    created: str = ""
    logs: tuple[Log, ...] = ()


@dataclass(frozen=True)
class Sent:
    """A transaction that went through: what another EVM needs to do the same.

    Parameters
    ----------
    sender, to, data
        The transaction; ``to`` is empty where it created a contract.
    time
        Of its block.
    gas
        What it cost here.
    """

    sender: str
    to: str
    data: bytes
    time: int
    gas: int


@dataclass
class _Account:
    nonce: int = 0
    balance: int = 0
    code: bytes = b""
    storage: dict[int, int] = field(default_factory=dict)


class Chain:
    """A chain with one transaction per block.

    Parameters
    ----------
    chain_id
        What contracts see as ``block.chainid``.

    Raises
    ------
    ToolMissingError
        If the extra ``zkkrum[evm]`` is not installed.
    ToolFailedError
        If the EVM is not of the fork the contracts are compiled for, or counts gas wrongly.
    """

    def __init__(self, chain_id: int = DEVELOPMENT_CHAIN_ID) -> None:
        require("eth_abi", "evm")
        self._revm = require("pyrevm", "evm")
        self.chain_id = chain_id
        self.time = GENESIS_TIME
        """Seconds since the epoch that the next transaction sees; set it freely."""
        self.history: list[Sent] = []
        """Every transaction that went through, in order."""
        self._number = 1
        self._world: dict[str, _Account] = {}
        self._probe()

    def _evm(self) -> Any:
        r = self._revm
        block = r.BlockEnv(number=self._number, timestamp=self.time, gas_limit=BLOCK_GAS_LIMIT, prevrandao=bytes(32))
        evm = r.EVM(env=r.Env(cfg=r.CfgEnv(chain_id=self.chain_id), block=block), spec_id=FORK)
        # What is inserted goes to the database, but its account also into the journal, where it would be warm and
        # would swallow the next insertion; reverting after each leaves the database alone.
        for address, account in self._world.items():
            before = evm.snapshot()
            info = r.AccountInfo(nonce=account.nonce, balance=account.balance, code=account.code or None)
            evm.insert_account_info(address, info)
            evm.revert(before)
            for slot, value in account.storage.items():
                before = evm.snapshot()
                evm.insert_account_storage(address, slot, value)
                evm.revert(before)
        return evm

    def _keep(self, evm: Any) -> None:
        """Take the state that a transaction left over into the world."""
        for address, balance, nonce, code, length, storage, status in _ACCOUNT.findall(evm.journal_str):
            raw = bytes.fromhex(code)[: int(length) if length else None]
            slots = {int(k): int(v) for k, v in _SLOT.findall(storage)}
            if not (slots or raw.strip(b"\0") or int(nonce) or int(balance)):
                continue
            account = self._world.setdefault(address, _Account())
            account.nonce, account.balance = int(nonce), int(balance)
            if "Created" in status:
                account.code = raw
            account.storage.update(slots)

    def _run(self, evm: Any, what: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(evm, what)(*arguments, **options)
        except RuntimeError as error:
            if evm.result is None or evm.result.reason != "Revert":
                raise HaltError(f"the EVM stopped: {error}") from error
            raise RevertError(_revert_data(error)) from None

    def _receipt(self, evm: Any, output: bytes = b"", created: str = "") -> Receipt:
        self._number += 1
        logs = tuple(Log(log.address, tuple(log.data[0]), bytes(log.data[1])) for log in evm.result.logs)
        return Receipt(evm.result.gas_used, output, created, logs)

    def deploy(self, sender: str, code: bytes) -> Receipt:
        """Create a contract from creation code and constructor arguments."""
        evm = self._evm()
        created = self._run(evm, "deploy", sender, code)
        self._keep(evm)
        self.history.append(Sent(sender, "", code, self.time, evm.result.gas_used))
        return self._receipt(evm, created=created)

    def send(self, sender: str, to: str, data: bytes, gas: int | None = None) -> Receipt:
        """Send a transaction; a refusal raises `RevertError` and changes nothing."""
        evm = self._evm()
        output = bytes(self._run(evm, "message_call", sender, to, calldata=data, gas=gas))
        self._keep(evm)
        self._world.setdefault(sender.lower(), _Account()).nonce += 1
        self.history.append(Sent(sender, to, data, self.time, evm.result.gas_used))
        return self._receipt(evm, output)

    def call(self, to: str, data: bytes) -> bytes:
        """Return what a contract answers, without changing anything."""
        return bytes(self._run(self._evm(), "message_call", NOBODY, to, calldata=data))

    def place(self, address: str, code: bytes) -> None:
        """Put runtime code at an address, as if it had always been there."""
        self._world.setdefault(address.lower(), _Account(nonce=1)).code = code

    def move(self, address: str, to: str) -> None:
        """Put a contract, code and storage, at another address, as if it had always been there."""
        self._world[to.lower()] = self._world.pop(address.lower())

    def code(self, address: str) -> bytes:
        """Return the runtime code at an address."""
        return self._world.get(address.lower(), _Account()).code

    def snapshot(self) -> object:
        """Return the chain's state, for `restore`."""
        return copy.deepcopy((self.time, self._number, self._world, self.history))

    def restore(self, state: object) -> None:
        """Put the chain back into a state that `snapshot` returned."""
        self.time, self._number, self._world, self.history = copy.deepcopy(state)  # type: ignore[misc]

    def keccak(self, data: bytes) -> bytes:
        """Return Keccak-256, computed by the EVM itself."""
        # CALLDATASIZE 0 0 CALLDATACOPY, CALLDATASIZE 0 KECCAK256, 0 MSTORE, 32 0 RETURN
        chain = _HASHER
        evm = self._revm.EVM(spec_id=FORK)
        evm.insert_account_info(chain, self._revm.AccountInfo(code=bytes.fromhex("365f5f37365f205f5260205ff3")))
        return bytes(evm.message_call(NOBODY, chain, calldata=data))

    def _probe(self) -> None:
        """Check the fork and the gas of cold storage: pyrevm accepts any fork name and keeps slots warm by itself."""
        probe, caller = _HASHER, "0x" + "ca" * 20
        # MCOPY and TSTORE exist from Cancun on; CLZ would be Osaka's.
        self.place(probe, bytes.fromhex("5f5f5f5e5f5f5d00"))
        try:
            self.send(caller, probe, b"")
        except HaltError as error:
            raise ToolFailedError(f"pyrevm does not run {FORK}: {error.message}") from error
        # SLOAD, ADD 1, SSTORE: 22,100 for a new slot, then 5,000, plus 10 for the rest.
        self.place(probe, bytes.fromhex("5f546001015f55"))
        gas = [self.send(caller, probe, b"").gas for _ in range(2)]
        if gas != [21_000 + 22_100 + 10, 21_000 + 5_000 + 10]:
            raise ToolFailedError(f"pyrevm counts {gas} gas for two increments, expected [43110, 26010]")
        # CALL of another account that has code: 2,600 while it is cold, plus 15 for the arguments.
        self.place(caller[:-1] + "b", bytes.fromhex("00"))
        self.place(probe, bytes.fromhex(f"5f5f5f5f5f73{caller[2:-1]}b5af100"))
        if (cold := self.send(caller, probe, b"").gas) != 21_000 + 2_600 + 15:
            raise ToolFailedError(f"pyrevm counts {cold} gas for a call, expected 23615")
        self._world.clear()
        self.history.clear()
        self._number = 1


def _revert_data(error: RuntimeError) -> bytes:
    """Return what a contract reverted with; which error that is, `Deployed` reads from the contracts' ABI.

    That it reverted stands in pyrevm's result (and so does the reason of a halt). The data do not: 0.3.7 has them only
    in the words of its exception, ``Revert { gas_used: 1, output: 0x… }``. This is the one place that reads these.
    """
    _, found, rest = str(error).partition("output: 0x")
    try:
        return bytes.fromhex(rest.removesuffix(" }") if found else "no data")
    except ValueError:
        raise ToolFailedError(f"pyrevm: expected 'Revert {{ …, output: 0x… }}', found {str(error)!r}") from error


_HASHER = "0x" + "ee" * 20
"""Address of the helpers above, never part of a chain's state."""


def _type(parameter: dict[str, Any]) -> str:
    """Return the canonical type of an ABI parameter, tuples spelled out."""
    kind: str = parameter["type"]
    if kind.startswith("tuple"):
        return f"({','.join(map(_type, parameter['components']))}){kind[len('tuple') :]}"
    return kind


def _plain(parameter: dict[str, Any], value: Any) -> Any:
    """Turn decoded structs into dictionaries by field name, and encode dictionaries back into tuples' order."""
    if parameter["type"] == "tuple":
        return {c["name"]: _plain(c, v) for c, v in zip(parameter["components"], value, strict=True)}
    return list(value) if isinstance(value, tuple) else value


def _ordered(parameter: dict[str, Any], value: Any) -> Any:
    if parameter["type"] == "tuple":
        return tuple(_ordered(c, value[c["name"]]) for c in parameter["components"])
    return value


_SOLIDITY_ERRORS: tuple[dict[str, Any], ...] = (
    {"name": "Error", "inputs": [{"name": "reason", "type": "string"}]},
    {"name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
)
"""What Solidity reverts with by itself; no ABI lists them."""


class Deployed:
    """A contract on a chain, its functions called by name.

    Parameters
    ----------
    chain
        Where it lives.
    contract
        What was compiled.
    address
        Where it was put.
    gas
        What its creation cost.

    Attributes
    ----------
    foreign
        Names of errors by selector that it passes on from contracts it calls.
    """

    def __init__(self, chain: Chain, contract: Contract, address: str, gas: int = 0) -> None:
        self.chain = chain
        self.contract = contract
        self.address = address
        self.gas = gas
        self.foreign: dict[bytes, str] = {}
        entries = {kind: [e for e in contract.abi if e["type"] == kind] for kind in ("error", "event")}
        self._errors = {self._id(e)[:4]: e for e in (*_SOLIDITY_ERRORS, *entries["error"])}
        self._events = {self._id(e): e for e in entries["event"]}

    @property
    def errors(self) -> dict[bytes, str]:
        """Names of its own errors by selector."""
        return {selector: str(entry["name"]) for selector, entry in self._errors.items()}

    @classmethod
    def create(cls, chain: Chain, contract: Contract, sender: str, *arguments: Any) -> Deployed:
        """Deploy; structs are given as dictionaries."""
        inputs: list[dict[str, Any]] = next((e["inputs"] for e in contract.abi if e["type"] == "constructor"), [])
        encoded = _encode(inputs, arguments)
        try:
            receipt = chain.deploy(sender, contract.bytecode + encoded)
        except RevertError as error:
            raise cls(chain, contract, "")._named(error) from None
        return cls(chain, contract, receipt.created, receipt.gas)

    def _id(self, entry: dict[str, Any]) -> bytes:
        return self.chain.keccak(f"{entry['name']}({','.join(map(_type, entry['inputs']))})".encode())

    def _function(self, name: str) -> dict[str, Any]:
        return next(e for e in self.contract.abi if e["type"] == "function" and e["name"] == name)

    def calldata(self, function: str, *arguments: Any) -> bytes:
        """Encode a call."""
        return self.contract.selectors[function] + _encode(self._function(function)["inputs"], arguments)

    def _named(self, error: RevertError) -> RevertError:
        entry = self._errors.get(error.data[:4])
        if entry is None:
            return RevertError(error.data, self.foreign.get(error.data[:4], ""))
        return RevertError(error.data, entry["name"], _decode(entry["inputs"], error.data[4:]))

    def send(self, sender: str, function: str, *arguments: Any, gas: int | None = None) -> Receipt:
        """Send a transaction that calls a function."""
        return self.send_data(sender, self.calldata(function, *arguments), gas)

    def send_data(self, sender: str, data: bytes, gas: int | None = None) -> Receipt:
        """Send a transaction with calldata that are encoded already."""
        try:
            return self.chain.send(sender, self.address, data, gas)
        except RevertError as error:
            raise self._named(error) from None

    def view(self, function: str, *arguments: Any) -> Any:
        """Return the answer of a function: one value, or a list of several; structs are dictionaries."""
        try:
            output = self.chain.call(self.address, self.calldata(function, *arguments))
        except RevertError as error:
            raise self._named(error) from None
        return self.result(function, output)

    def result(self, function: str, output: bytes) -> Any:
        """Decode what a function returned."""
        values = _decode(self._function(function)["outputs"], output)
        return values[0] if len(values) == 1 else values

    def events(self, receipt: Receipt) -> list[tuple[str, dict[str, Any]]]:
        """Return the contract's own events of a transaction: name and arguments."""
        found = []
        for log in receipt.logs:
            if log.address.lower() != self.address.lower() or (entry := self._events.get(log.topics[0])) is None:
                continue
            indexed = [p for p in entry["inputs"] if p["indexed"]]
            values = {p["name"]: _decode([p], topic)[0] for p, topic in zip(indexed, log.topics[1:], strict=True)}
            rest = [p for p in entry["inputs"] if not p["indexed"]]
            values |= {p["name"]: v for p, v in zip(rest, _decode(rest, log.data), strict=True)}
            found.append((entry["name"], values))
        return found


def _encode(inputs: Sequence[dict[str, Any]], arguments: Sequence[Any]) -> bytes:
    ordered = [_ordered(p, a) for p, a in zip(inputs, arguments, strict=True)]
    return bytes(require("eth_abi", "evm").encode([_type(p) for p in inputs], ordered))


def _decode(outputs: Sequence[dict[str, Any]], data: bytes) -> list[Any]:
    values = require("eth_abi", "evm").decode([_type(p) for p in outputs], data)
    return [_plain(p, v) for p, v in zip(outputs, values, strict=True)]
