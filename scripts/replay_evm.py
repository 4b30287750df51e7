"""A life on the EVM in this process, lived again on another implementation: the same transactions, and what they cost.

    python scripts/replay_evm.py --anvil PATH      gas of some shapes under Cancun and Osaka, into docs/onchain.json

py-evm (PyPI) is an EVM in Python alone, written apart from pyrevm's; it knows Cancun. anvil (npm,
`@foundry-rs/anvil-linux-amd64`) is a development node around a newer revm; it knows Osaka, which the others do not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onchain import record

from zkkrum.evm import demo
from zkkrum.evm.chain import Sent
from zkkrum.extras import require
from zkkrum.protocol.params import Params
from zkkrum.toolchain import Toolchain

GAS_LIMIT = 30_000_000
RICH = 10**30
BASE_FEE = 10**9
SHAPES = (Params.of(5, 1300), Params.of(10, 540), Params.of(20, 200), Params.of(40, 20), Params.of(5, 60, chunk=21))


class PyEvm:
    """py-evm under Cancun: one transaction a block, no fees.

    Parameters
    ----------
    chain_id
        What contracts see.
    """

    def __init__(self, chain_id: int) -> None:
        base = require("eth.chains.base", "test")
        cancun = require("eth.vm.forks.cancun", "test").CancunVM
        atomic = require("eth.db.atomic", "test").AtomicDB
        chain = base.MiningChain.configure(__name__="Replay", vm_configuration=((0, cancun),), chain_id=chain_id)
        start = {"difficulty": 0, "gas_limit": GAS_LIMIT, "timestamp": 0}
        self._chain = chain.from_genesis(atomic(), start, {})
        self._spoof = require("eth.vm.spoof", "test").SpoofTransaction
        self._number = 0

    def replay(self, history: Sequence[Sent]) -> list[int]:
        """Run transactions and return what each cost; a refused one raises."""
        header = self._chain.get_canonical_head()
        vm = self._chain.get_vm(header)
        state = vm.state
        costs = []
        for sent in history:
            self._number += 1
            context = vm.create_execution_context(
                header.copy(block_number=self._number, timestamp=sent.time, gas_limit=GAS_LIMIT),
                vm.previous_hashes,
                vm.chain_context,
            )
            state = type(state)(state._db, context, state.make_state_root())
            sender, to = bytes.fromhex(sent.sender[2:]), bytes.fromhex(sent.to[2:])
            state.set_balance(sender, RICH)
            plain = vm.create_unsigned_transaction(
                nonce=state.get_nonce(sender), gas_price=BASE_FEE, gas=GAS_LIMIT, to=to, value=0, data=sent.data
            )
            computation = state.apply_transaction(self._spoof(plain, from_=sender))
            computation.raise_if_error()
            spent = GAS_LIMIT - computation.get_gas_remaining()
            costs.append(spent - min(computation.get_gas_refund(), spent // 5))
            state.persist()
        return costs


@dataclass
class Anvil:
    """anvil under a hard fork, as a process that lives as long as the block.

    Parameters
    ----------
    program
        Its path.
    fork
        ``cancun`` or ``osaka``.
    chain_id
        What contracts see.
    start
        Time of its first block.
    """

    program: Path
    fork: str
    chain_id: int
    start: int
    port: int = 8599

    def __enter__(self) -> Anvil:
        limits = ("--gas-limit", str(2**40), "--block-base-fee-per-gas", "0", "--gas-price", "0", "--silent")
        where = ("--port", str(self.port), "--chain-id", str(self.chain_id), "--timestamp", str(self.start - 1000))
        # The limit of a transaction, 2^24 gas, is switched on where the fork has it.
        capped = ("--enable-tx-gas-limit",) if self.fork == "osaka" else ()
        self._process = subprocess.Popen([self.program, "--hardfork", self.fork, *limits, *where, *capped])
        for _ in range(100):
            try:
                self._ask("eth_chainId")
                return self
            except OSError:
                time.sleep(0.1)
        raise SystemExit("anvil does not answer")

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait()

    def _ask(self, method: str, *parameters: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}", body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        if "error" in found:
            raise SystemExit(f"anvil: {method}: {found['error']}")
        return found["result"]

    def _receipt(self, transaction: str) -> dict[str, Any]:
        for _ in range(300):
            receipt: dict[str, Any] | None = self._ask("eth_getTransactionReceipt", transaction)
            if receipt:
                return receipt
            time.sleep(0.1)
        raise SystemExit(f"anvil: {transaction} is not in a block")

    def replay(self, history: Sequence[Sent]) -> list[int]:
        """Run transactions and return what each cost; a refused one raises."""
        costs = []
        for k, sent in enumerate(history):
            self._ask("anvil_setBalance", sent.sender, hex(RICH))
            self._ask("anvil_impersonateAccount", sent.sender)
            # Here a block is later than the one before: whatever happened at one time happens up to it.
            together = sum(other.time == sent.time for other in history[k + 1 :])
            self._ask("evm_setNextBlockTimestamp", sent.time - together)
            fields = {"from": sent.sender, "data": "0x" + sent.data.hex(), "gas": hex(2**24), "gasPrice": "0x0"}
            if sent.to:
                fields["to"] = sent.to
            receipt = self._receipt(self._ask("eth_sendTransaction", fields))
            if receipt["status"] != "0x1":
                raise SystemExit(f"anvil refused what pyrevm took: {receipt}")
            costs.append(int(receipt["gasUsed"], 16))
        return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anvil", type=Path, required=True, metavar="PATH")
    parser.add_argument("--plain-verifier", action="store_true")
    arguments = parser.parse_args()
    rows = []
    with Toolchain.find(notify=print) as tools:
        for params in SHAPES[1:2] if arguments.plain_verifier else SHAPES:
            life = demo.life(params, tools, byzantine=1, optimized=not arguments.plain_verifier)
            rows += compare(life, arguments.anvil)
    version = subprocess.run([arguments.anvil, "--version"], capture_output=True, check=True, text=True).stdout
    record("plain_verifier" if arguments.plain_verifier else "rounds", rows, anvil=version.split()[2])


def compare(life: demo.Life, program: Path) -> list[dict[str, Any]]:
    """Replay a life under both forks, and return a row of the table for each."""
    history = life.chain.history
    by_fork = {}
    for fork in ("cancun", "osaka"):
        with Anvil(program, fork, life.chain.chain_id, history[0].time) as node:
            by_fork[fork] = node.replay(history)
    if by_fork["cancun"] != [sent.gas for sent in history]:
        sys.exit(f"anvil counts otherwise under Cancun: {by_fork['cancun']}, here {[sent.gas for sent in history]}")
    return [_row(life, fork, costs) for fork, costs in by_fork.items()]


def _row(life: demo.Life, fork: str, costs: Sequence[int]) -> dict[str, Any]:
    """Add up what a life's transactions cost under a fork; the history has them in the order of the life."""
    p, checkers = life.params, len(life.verify_gas)
    deployed = [gas for sent, gas in zip(life.chain.history, costs, strict=True) if not sent.to]
    *parts, _, rounds = deployed
    after = costs[len(deployed) :]
    opened, commits, alone = after[0], after[1 : 1 + p.n], after[1 + p.n : 1 + p.n + checkers]
    *verdict, slash = after[1 + p.n + checkers :]
    return {
        "n": p.n,
        "d": p.d,
        "chunk": p.chunk,
        "shards": p.chunks,
        "gates": max(life.gates.values()),
        "fork": fork.title(),
        "verifiers": sum(parts),
        "rounds": rounds,
        "open": opened,
        "commit": max(commits),
        "call": max(alone),
        "verdict": sum(verdict),
        "slash": slash,
        "total": opened + sum(commits) + sum(verdict),
    }


if __name__ == "__main__":
    main()
