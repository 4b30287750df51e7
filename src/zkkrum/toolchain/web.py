"""Runs the Node.js scripts of a folder on the packages of its lock file, unpacked afresh, each hash checked.

Must not know what the scripts do.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zkkrum.errors import ResourceError, ToolMissingError
from zkkrum.files import ScratchFolder, explained
from zkkrum.toolchain import process
from zkkrum.toolchain.provision import NODE_HINT, Node, find_node, npm_environment

NPM_FLAGS = ("--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--no-update-notifier")


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
def workspace(
    sources: Path, *, development: bool = False, notify: Callable[[str], None] | None = None
) -> Iterator[Workspace]:
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
    node = find_node()
    if not node.npm:
        raise ToolMissingError("npm: expected it beside Node.js, found none", NODE_HINT)
    with ScratchFolder() as scratch:
        folder = Path(scratch) / "web"
        with explained(folder):
            shutil.copytree(sources, folder, ignore=shutil.ignore_patterns("node_modules"))
        if notify:
            notify("unpacking the pinned packages of the page (about 60 MB to download the first time)")
        omitted = () if development else ("--omit=dev",)
        command = (*node.npm, "ci", *NPM_FLAGS, *omitted, "--loglevel=error")
        done = process.run(command, cwd=folder, env=npm_environment(node, Path(scratch)))
        if done.code:
            error = process.failure("npm ci", done)
            if isinstance(error, ResourceError):
                raise error
            raise ToolMissingError(
                f"the pinned packages could not be unpacked: {error.message}",
                f"run it again with a network connection; {error.hint}",
            )
        yield Workspace(folder, node)
