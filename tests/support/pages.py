"""The blocks of the documents: what is run, what is only shown, and what a command is expected to print.

Must not know what any page says.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from support.tools import CHECKOUT
from zkkrum.cli import main

PAGES = sorted(
    path.relative_to(CHECKOUT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "examples/*/README.md")
    for path in CHECKOUT.glob(pattern)
    if path.name != "CHANGELOG.md"
)
SHOWN = {"text", "toml", "json", "yaml"}
"""Kinds of blocks that nobody runs."""
HEAVY = "(not run here"
"""In the comment of a command that a test only parses: the reader sees it, and why."""


@dataclass(frozen=True)
class Command:
    """A command of a console block, and what follows it there: ``…`` stands for anything."""

    line: str
    output: str

    @property
    def heavy(self) -> bool:
        """Whether the page says that it is not run."""
        return HEAVY in self.line

    def printed(self, found: str) -> bool:
        """Tell whether an output has what the page shows, whatever its line breaks."""
        pieces = [re.escape(" ".join(piece.split())) for piece in self.output.split("…")]
        return re.search(".*".join(pieces), " ".join(found.split())) is not None


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Give (kind, text) of every fenced block of a page, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.M | re.S)
    assert len(re.findall(r"^\s*```", text, flags=re.M)) == 2 * len(found), "a fence that is not closed, or indented"
    yield from found


def commands(block: str) -> Iterator[Command]:
    """Give the commands of a console block: ``$`` begins one, and it goes on while bash would wait for more."""
    lines = block.splitlines()
    assert lines[0].startswith("$ "), f"expected a command after `$ `, found {lines[0]!r}"
    for chunk in re.split(r"^\$ ", block, flags=re.M)[1:]:
        first, *rest = chunk.splitlines()
        while rest and (first.endswith("\\") or _open_loop(first)):
            first += "\n" + rest.pop(0)
        yield Command(first, "\n".join(rest))


def _open_loop(text: str) -> bool:
    words = re.findall(r"\b(?:do|done)\b", text)
    return words.count("do") > words.count("done")


def check_options(line: str) -> None:
    """Raise `click.UsageError` where a line calls zkkrum with a command or an option that there is none of."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word.strip(";&|"):
            parts[-1].append(word)
        else:
            parts.append([])
    for words in parts:
        for at, word in enumerate(words):
            name = next(iter(words[at + 1 :]), "--help")
            if word != "zkkrum" or words[at - 1] == "-t" or name.startswith("-"):
                continue
            command = main.get_command(click.Context(main), name)
            if command is None:
                raise click.UsageError(f"no command {name!r}")
            command.make_parser(click.Context(command, info_name=name)).parse_args(words[at + 2 :])


def links(page: str) -> Iterator[tuple[Path, str]]:
    """Give (file, anchor) of every link of a page to a file of the checkout."""
    text = re.sub(r"^```.*?^```$", "", (CHECKOUT / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield ((CHECKOUT / page).parent / path).resolve() if path else CHECKOUT / page, anchor


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as they are made from them."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
