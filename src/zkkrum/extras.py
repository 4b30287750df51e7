"""Optional libraries, imported when first needed.

Must not know what they are used for.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from zkkrum.errors import ToolMissingError

ONLY_ON = {"evm": ((3, 11), (3, 12))}
"""Extras that cannot be had on every Python, and on which they can: pyrevm has no wheels for others."""


def how_to_install(extra: str) -> str:
    """Return the command that brings an extra; an index need not have this package.

    Examples
    --------
    >>> how_to_install("node")
    "`pip install '.[node]'` in the checkout, or name your wheel: `pip install 'WHEEL[node]'`"
    """
    return f"`pip install '.[{extra}]'` in the checkout, or name your wheel: `pip install 'WHEEL[{extra}]'`"


def how_to_get(extra: str) -> tuple[bool, str]:
    """Tell whether an extra can be had on this Python, and the command or the sentence that helps.

    Examples
    --------
    >>> how_to_get("plot") == (True, f"install zkkrum[plot]: {how_to_install('plot')}")
    True
    """
    pythons = ONLY_ON.get(extra)
    if pythons and sys.version_info[:2] not in pythons:
        wanted = " and ".join(f"{major}.{minor}" for major, minor in pythons)
        found = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return False, f"zkkrum[{extra}] can be had on Python {wanted} only, and this is {found}: use one of those"
    return True, f"install zkkrum[{extra}]: {how_to_install(extra)}"


def require(module: str, extra: str) -> Any:
    """Import a module that an extra brings.

    Raises
    ------
    ToolMissingError
        Naming the extra, or saying that this Python cannot have it.

    Examples
    --------
    >>> require("json", "none").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ToolMissingError(
            f"{module.split('.')[0]} is needed here and cannot be imported ({error})", how_to_get(extra)[1]
        ) from error
