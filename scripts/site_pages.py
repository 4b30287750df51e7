"""What mkdocs is told of the checkout: the README is the first page, and what stands outside docs/ is part of it.

Documents link to each other as files of the checkout, which is what a reader of the repository sees; here the same
links are made to lead to the same files in the site. Must not change a word.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

CHECKOUT = Path(__file__).resolve().parents[1]
DOCS = CHECKOUT / "docs"
OUTSIDE = ("*.md", "LICENSE", "Dockerfile", "examples/**/*.md", "examples/**/*.py")
"""What the site has of the checkout beside docs/, under ``checkout/``."""
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]*)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README as first page, and the files from outside docs/."""
    files.append(File.generated(config, "index.md", abs_src_path=str(CHECKOUT / "README.md")))
    for pattern in OUTSIDE:
        for path in sorted({*CHECKOUT.glob(pattern)} - {CHECKOUT / "README.md"}):
            place = f"checkout/{path.relative_to(CHECKOUT).as_posix()}"
            files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links to files of the checkout lead to the same files in the site."""
    source = Path(str(page.file.abs_src_path)).resolve()
    here = Path(page.file.src_uri).parent

    def moved(match: re.Match[str]) -> str:
        target = (source.parent / match[1]).resolve()
        if target.is_dir():
            target /= "README.md"
        if target == CHECKOUT / "README.md":
            place = Path("index.md")
        elif target.is_relative_to(DOCS):
            place = target.relative_to(DOCS)
        else:
            place = Path("checkout") / target.relative_to(CHECKOUT)
        return Path(os.path.relpath(place, here)).as_posix()

    return LINK.sub(moved, markdown)
