"""zkkrum: zero-knowledge proofs of the Krum verdict on committed federated-learning updates.

The names in ``__all__`` are the Python interface; they are imported on first use, so that a command pays only for its
own. What is not among them may change without notice.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zkkrum.version import __version__ as __version__

if TYPE_CHECKING:
    from zkkrum.proof.audit import Audit
    from zkkrum.proof.audit import audit as audit_run
    from zkkrum.proof.material import Material
    from zkkrum.proof.material import load as load_round_directory
    from zkkrum.proof.model import apply_aggregate
    from zkkrum.proof.options import ProveOptions
    from zkkrum.proof.prove import Proved
    from zkkrum.proof.prove import prove as prove_round
    from zkkrum.proof.verify import Verification
    from zkkrum.proof.verify import verify as verify_bundle
    from zkkrum.protocol.krum import Krum, Verdict
    from zkkrum.protocol.params import Detection, Params, Round, Score
    from zkkrum.protocol.quantize import dequantize, quantize
    from zkkrum.rounds.models import load_model, save_model, subject_of
    from zkkrum.rounds.parties import Terms, commit_update, open_round
    from zkkrum.rounds.run import Run
    from zkkrum.rounds.tensors import BFLOAT16, widen
    from zkkrum.rounds.updates import Update, flatten, load_update, save_update, unflatten
    from zkkrum.toolchain import Toolchain

_HOMES = {
    "Audit": "proof.audit",
    "BFLOAT16": "rounds.tensors",
    "Detection": "protocol.params",
    "Krum": "protocol.krum",
    "Material": "proof.material",
    "Params": "protocol.params",
    "ProveOptions": "proof.options",
    "Proved": "proof.prove",
    "Round": "protocol.params",
    "Run": "rounds.run",
    "Score": "protocol.params",
    "Terms": "rounds.parties",
    "Toolchain": "toolchain",
    "Update": "rounds.updates",
    "Verdict": "protocol.krum",
    "Verification": "proof.verify",
    "apply_aggregate": "proof.model",
    "audit_run": "proof.audit:audit",
    "commit_update": "rounds.parties",
    "dequantize": "protocol.quantize",
    "flatten": "rounds.updates",
    "load_model": "rounds.models",
    "load_round_directory": "proof.material:load",
    "load_update": "rounds.updates",
    "open_round": "rounds.parties",
    "prove_round": "proof.prove:prove",
    "quantize": "protocol.quantize",
    "save_model": "rounds.models",
    "save_update": "rounds.updates",
    "subject_of": "rounds.models",
    "unflatten": "rounds.updates",
    "verify_bundle": "proof.verify:verify",
    "widen": "rounds.tensors",
}
__all__ = [
    "BFLOAT16",
    "Audit",
    "Detection",
    "Krum",
    "Material",
    "Params",
    "ProveOptions",
    "Proved",
    "Round",
    "Run",
    "Score",
    "Terms",
    "Toolchain",
    "Update",
    "Verdict",
    "Verification",
    "apply_aggregate",
    "audit_run",
    "commit_update",
    "dequantize",
    "flatten",
    "load_model",
    "load_round_directory",
    "load_update",
    "open_round",
    "prove_round",
    "quantize",
    "save_model",
    "save_update",
    "subject_of",
    "unflatten",
    "verify_bundle",
    "widen",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zkkrum' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f"zkkrum.{module}"), attribute or name)
