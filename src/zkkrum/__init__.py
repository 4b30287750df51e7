"""zkkrum: zero-knowledge proofs of the Krum verdict on committed federated-learning updates.

The names below are the Python interface; they are imported on first use, so that a command pays only for its own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zkkrum.krum import Krum as Krum
    from zkkrum.krum import Verdict as Verdict
    from zkkrum.params import Params as Params
    from zkkrum.params import Round as Round
    from zkkrum.parties import Terms as Terms
    from zkkrum.parties import commit_update as commit_update
    from zkkrum.parties import open_round as open_round
    from zkkrum.prove import Material as Material
    from zkkrum.prove import Proved as Proved
    from zkkrum.prove import load as load_round_directory  # noqa: F401
    from zkkrum.prove import prove as prove_round  # noqa: F401
    from zkkrum.quantize import dequantize as dequantize
    from zkkrum.quantize import quantize as quantize
    from zkkrum.toolchain import Toolchain as Toolchain
    from zkkrum.updates import flatten as flatten
    from zkkrum.updates import load_update as load_update
    from zkkrum.verify import verify as verify_bundle  # noqa: F401

_HOMES = {
    "Krum": "krum",
    "Verdict": "krum",
    "Params": "params",
    "Round": "params",
    "Material": "prove",
    "Proved": "prove",
    "Terms": "parties",
    "commit_update": "parties",
    "load_round_directory": "prove:load",
    "open_round": "parties",
    "prove_round": "prove:prove",
    "dequantize": "quantize",
    "quantize": "quantize",
    "Toolchain": "toolchain",
    "flatten": "updates",
    "load_update": "updates",
    "verify_bundle": "verify:verify",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zkkrum' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f"zkkrum.{module}"), attribute or name)
