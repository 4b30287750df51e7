"""Optional libraries, imported when first needed.

Must not know what they are used for.
"""

from __future__ import annotations

import importlib
from typing import Any

from zkkrum.errors import ToolMissingError


def require(module: str, extra: str) -> Any:
    """Import a module that an extra brings.

    Raises
    ------
    ToolMissingError
        Naming the extra.

    Examples
    --------
    >>> require("json", "none").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ToolMissingError(
            f"{module.split('.')[0]} is needed here and cannot be imported ({error})",
            f"pip install 'zkkrum[{extra}]'",
        ) from error
