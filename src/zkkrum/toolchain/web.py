"""Runs the Node.js scripts of a folder on the packages of its lock file, unpacked afresh, each hash checked.

Must not know what the scripts do.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zkkrum.files import ScratchFolder, explained
from zkkrum.progress import Notify, unheard
from zkkrum.toolchain import process
from zkkrum.toolchain.provision import Node, find_node_with_npm, npm_ci


@dataclass(frozen=True)
class Workspace:
    """A scratch copy of a folder with the packages of its lock file beside it.

    Parameters
    ----------
    folder
        The copy.
    node
        What runs its scripts.
    """

    folder: Path
    node: Node

    def run(self, script: str, *arguments: str | Path) -> process.Completed:
        """Run one of its scripts, or of its packages, to a good end.

        Raises
        ------
        ToolFailedError, ResourceError
            If the script failed, with its last words.
        """
        done = process.run((self.node.command, script, *arguments), cwd=self.folder)
        if done.code:
            raise process.failure(Path(script).stem, done)
        return done


@contextmanager
def workspace(sources: Path, *, development: bool = False, notify: Notify = unheard) -> Iterator[Workspace]:
    """Copy a folder that has a ``package-lock.json``, and install its packages into the copy.

    Nothing is kept between two calls but npm's own cache, which is checked by the same hashes, and no script of a
    package is run.

    Parameters
    ----------
    sources
        The folder; it is not written to.
    development
        Whether to install what only developers need, too.

    Raises
    ------
    ToolMissingError
        If there is no Node.js or npm, or npm cannot get the packages.
    ResourceError
        If memory or disk ran out.
    """
    process.guard()
    node = find_node_with_npm()
    with ScratchFolder() as scratch:
        folder = Path(scratch) / "web"
        with explained(folder):
            shutil.copytree(sources, folder, ignore=shutil.ignore_patterns("node_modules"))
        notify("unpacking the pinned packages (about 60 MB to download the first time)")
        npm_ci(
            folder,
            node,
            Path(scratch),
            "--prefer-offline",
            *(() if development else ("--omit=dev",)),
            failed="the pinned packages could not be unpacked",
            hint="run it again with a network connection",
        )
        yield Workspace(folder, node)
