"""The model that comes back: a verified round's mean update, and the step of a model by it.

Must not know how proofs are made, nor how they are checked: it takes the answer of `zkkrum.proof.verify`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zkkrum.errors import InputError
from zkkrum.proof.verify import Verification
from zkkrum.protocol.aggregate import mean_update
from zkkrum.rounds.models import check_fits, check_subject, next_model
from zkkrum.rounds.tensors import Tensors


def mean_of(verified: Verification) -> NDArray[np.float64]:
    """Return the mean of the accepted clients' committed updates: shape (d,), binary64.

    Raises
    ------
    InputError
        If the round was refuted, or no aggregate was compared with it.
    """
    if not verified.ok:
        raise InputError(f"the round is not proved: {verified.reason}", "nothing may be taken from it")
    if verified.opened is None or verified.round is None or verified.verdict is None:
        raise InputError("no aggregate was compared with the proof", "verify the bundle with its aggregate.npz")
    p = verified.round.params
    count = len(verified.verdict.accepted(p))
    return mean_update(verified.opened.aggregate.total, count, verified.round.clip, p.b)


def apply_aggregate(model: Tensors, verified: Verification, *, any_base: bool = False) -> dict[str, NDArray[Any]]:
    """Return the model after a verified round: base plus the mean of the accepted clients' committed updates.

    The same bits on every machine: see `zkkrum.rounds.models.next_model`.

    Parameters
    ----------
    model
        Name to array: the one the round started from. Buffers (integers) are handed through.
    verified
        What `zkkrum.verify_bundle` said, given the bundle *and* ``aggregate=``.
    any_base
        Also move a model that the round does not name (its subject is zero, or only the layout's).

    Raises
    ------
    InputError
        If the round was refuted, no aggregate was compared, or the round starts from another model.

    Examples
    --------
    Verify before you train::

        with zkkrum.Toolchain.find() as tools:
            found = zkkrum.verify_bundle(Path("bundle"), tools, aggregate=Path("aggregate.npz"))
        model = zkkrum.apply_aggregate(model, found)
    """
    mean = mean_of(verified)
    assert verified.round is not None
    assert verified.opened is not None
    if verified.opened.layout:
        check_fits(model, verified.opened.layout)
    check_subject(model, verified.round, any_base=any_base)
    return next_model(model, mean)
