"""Makes the page, and tells whether a file is one: the same inputs give the same bytes.

Must not know how proofs are made. The page is written as browsers write documents, so that it can hash itself.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from zkkrum.errors import InputError
from zkkrum.page.keys import circuit_names, known_keys
from zkkrum.progress import Notify, unheard
from zkkrum.protocol.params import Params
from zkkrum.rounds.foreign import parse_json, read_plain
from zkkrum.rounds.roundfile import Many, ParametersFile
from zkkrum.toolchain import PAIR, Toolchain
from zkkrum.toolchain.web import workspace
from zkkrum.version import __version__

WEB = Path(__file__).parent / "web"
ENTRY = "src/main.ts"
PAGE_BYTES_MAX = 64 * 2**20
SHAPES_MAX = 64
"""Shapes that a page may know besides those of the shipped table."""
DIFFERS = "it differs from the page that this zkkrum makes"

_MADE = '<script type="application/json" id="made">'
_SHAPES = TypeAdapter(Many[ParametersFile])


def make(shapes: Iterable[Params], tools: Toolchain, notify: Notify = unheard) -> bytes:
    """Return the page.

    Parameters
    ----------
    shapes
        Rounds whose keys the page is to know, besides those of the shipped table.

    Raises
    ------
    ToolMissingError, ToolFailedError, ResourceError
        If the script cannot be built.
    ReferenceStringError
        If a key must be built and there are no points for it.
    """
    listed = _distinct(shapes)
    if len(listed) > SHAPES_MAX:
        raise InputError(f"page: expected at most {SHAPES_MAX} shapes, found {len(listed):,}", "make several pages")
    made = {
        "zkkrum": __version__,
        "noir": PAIR.noir,
        "bb": PAIR.bb,
        "shapes": [ParametersFile.of(params).model_dump() for params in listed],
        "keys": known_keys(listed, tools),
    }
    return _document(made, _script(notify)).encode()


def check(path: Path, tools: Toolchain, notify: Notify = unheard) -> str:
    """Tell whether a file is exactly what this version makes for the shapes that it says it was made with.

    Returns
    -------
    str
        Why it is not; empty if it is.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        found = read_plain(path, PAGE_BYTES_MAX)
    except OSError as error:
        if error.errno == errno.EFBIG:
            return "too large for a page"
        raise InputError(f"{path}: {error.strerror}") from error
    try:
        made = _made_of(found.decode())
        shapes = [file.params() for file in _SHAPES.validate_python(made["shapes"])]
    except (ValueError, KeyError, AttributeError, ValidationError, InputError):
        return "no page that zkkrum made: it does not say what it was made with"
    for name, ours in (("zkkrum", __version__), ("noir", PAIR.noir), ("bb", PAIR.bb)):
        if made.get(name) != ours:
            return f"it says that it was made with {name} {str(made.get(name))[:40]!r}, this is {ours!r}"
    if len(shapes) > SHAPES_MAX:  # each may have to be compiled
        return f"it knows {len(shapes):,} shapes, and no page more than {SHAPES_MAX}"
    if found != _document(made, _script(notify)).encode():
        return DIFFERS
    if made.get("keys") != known_keys(shapes, tools):
        return "it knows other verification keys than this zkkrum does"
    return "" if found == make(shapes, tools, notify) else DIFFERS


def _distinct(shapes: Iterable[Params]) -> list[Params]:
    """Return each shape once, in an order that does not depend on how they were given."""
    named = {json.dumps([*circuit_names(params).values(), params.chunk]): params for params in shapes}
    return [named[name] for name in sorted(named)]


def _made_of(page: str) -> dict[str, Any]:
    start = page.index(_MADE) + len(_MADE)
    made: dict[str, Any] = parse_json(page[start : page.index("</script>", start)].encode())
    return made


@cache
def _script(notify: Notify) -> str:
    """Build the page's script; once a process, for it depends on nothing but the package."""
    with workspace(WEB, notify=notify) as web:
        out = web.folder / "page.js"
        web.run("build.mjs", ENTRY, out)
        return out.read_text("utf-8").strip()


def _inline(text: str) -> str:
    """Return a script so that no part of it reads as markup."""
    return re.sub(r"<(?=!--|/?script)", r"\\x3c", text, flags=re.IGNORECASE)


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _document(made: dict[str, Any], built: str) -> str:
    """Put the page together.

    It is written exactly as a browser would serialize it (no space around ``head`` and ``body``, every attribute in
    double quotes), and its policy names the hash of the one script and the one style that may run.
    """
    script = _inline(built)
    style = (WEB / "page.css").read_text("utf-8").strip()
    body = (WEB / "page.html").read_text("utf-8").strip()
    data = json.dumps(made, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_source_hash(script)} 'wasm-unsafe-eval'",
            f"style-src {_source_hash(style)}",
            "connect-src data:",  # bb's WebAssembly, which is in the script
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta name="referrer" content="no-referrer">'
        '<link rel="icon" href="data:,">'
        f"<title>zkkrum: verify a bundle</title><style>{style}</style>"
    )
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body data-state="starting">'
        f"{body}{_MADE}{data}</script><script>{script}</script></body></html>"
    )
