"""The Dockerfile's steps, run without Docker: built as root, used by a user who owns nothing and has no home.

What cannot be done without Docker is named in `ELSEWHERE`: everything else in the file is run as it stands, with its
folders under a scratch one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.tools import CHECKOUT, unavailable
from zkkrum.errors import ToolFailedError, ToolMissingError
from zkkrum.toolchain import Toolchain
from zkkrum.toolchain.crs import compressed

DOCKERFILE = CHECKOUT / "Dockerfile"
NOBODY = 65534
ELSEWHERE = (
    "ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm",
    "useradd --uid 10001 --create-home zkkrum",
)
"""Steps that change the image's system; here Node.js and the user are the machine's."""


@pytest.fixture(scope="module", autouse=True)
def _able() -> None:
    """Skip what this machine cannot do; fail where it must."""
    if os.geteuid() != 0:
        unavailable(ToolMissingError("the container's steps are run by root and used by nobody: run as root"))
    if shutil.which("setpriv") is None:
        unavailable(ToolMissingError("setpriv (util-linux) is missing"))


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile and their arguments."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


@dataclass
class Image:
    """A scratch folder that stands for the image's root, and what the last stage says."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)

    def at(self, text: str) -> str:
        """Move the image's folders below the scratch one."""
        return re.sub(r"(?<![\w./])/(?=(?:opt|src|work|tmp/cache)(?:[/:\s]|$))", f"{self.root}/", text)

    def run(self, *arguments: str | Path, uid: int = NOBODY, **env: str) -> subprocess.CompletedProcess[str]:
        """Do what ``docker run --user`` does, with nothing of our own environment."""
        # env: what setpriv itself starts is still looked up with root's rights
        command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "env", *self.entrypoint]
        settings = {**self.env, "HOME": "/", **env}
        return subprocess.run(
            [*command, *map(str, arguments)],
            env=settings,
            cwd=self.root / "work",
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


def assignments(text: str) -> Mapping[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(text))


def interpreter(image: Image) -> Path:
    """A Python that another user can run, its library too: this one may stand in somebody's home."""
    looked = [sys.executable, "/usr/local/bin/python3", "/usr/bin/python3"]
    for path in dict.fromkeys(Path(name).resolve() for name in looked):
        check = (
            "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10) or sys.prefix not in ensurepip.__file__)"
        )
        if image.run(path, "-c", check).returncode == 0:
            return path
    missing = f"no Python >= 3.10 with venv that other users can run: {', '.join(looked)}"
    unavailable(ToolMissingError(missing, "install one with its venv (on Debian: python3-venv)"))


@pytest.fixture(scope="module")
def image(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    # Below the system's temporary folder itself: pytest's own is closed to others, as a home may be.
    root = Path(tempfile.mkdtemp(prefix="zkkrum-image-"))
    root.chmod(0o755)
    made = Image(root)
    (root / "work").mkdir()
    try:
        python = interpreter(made)
        _, build, final = stages()
        _build(made, build, python)
        _finish(made, final)
        yield made
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _build(image: Image, stage: list[tuple[str, str]], python: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ZKKRUM_")}
    where = image.root
    for word, rest in stage:
        if word == "WORKDIR":
            where = Path(image.at(rest))
            where.mkdir(parents=True)
        elif word == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for source in sources:
                into = where / target / (source if len(sources) > 1 else "")
                into.parent.mkdir(parents=True, exist_ok=True)
                if (CHECKOUT / source).is_dir():
                    shutil.copytree(CHECKOUT / source, into, ignore=shutil.ignore_patterns("__pycache__", "target"))
                else:
                    shutil.copy(CHECKOUT / source, into)
        elif word == "ENV":
            env |= {name: image.at(value) for name, value in assignments(rest).items()}
        elif word == "RUN" and rest not in ELSEWHERE:
            command = re.sub(r"^python ", f"{shlex.quote(str(python))} ", image.at(rest))
            done = subprocess.run(command, shell=True, cwd=where, env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                unavailable(ToolFailedError(f"{rest}\n{done.stdout}\n{done.stderr}"))
        else:
            assert word in ("FROM", "COPY") or rest in ELSEWHERE, (word, rest)
    shutil.rmtree(image.root / "src")  # the last stage has no sources


def _finish(image: Image, stage: list[tuple[str, str]]) -> None:
    for word, rest in stage:
        if word == "ENV":
            image.env = {name: image.at(value) for name, value in assignments(rest).items()}
        elif word == "ENTRYPOINT":
            (name,) = json.loads(rest)
            image.entrypoint = [str(shutil.which(name, path=image.env["PATH"]))]
        elif word == "WORKDIR":
            Path(image.at(rest)).mkdir(exist_ok=True)
        elif word == "USER":
            assert int(rest) != 0
        else:
            assert word in ("FROM", "COPY", "CMD") or rest in ELSEWHERE, (word, rest)
    (image.root / "tmp").mkdir()
    (image.root / "tmp").chmod(0o1777)
    image.env["PATH"] += os.pathsep + str(Path(shutil.which("node") or "/usr/bin/node").parent)


def example(image: Image) -> Path:
    """A copy of the round that ships with zkkrum, where the user of the container finds it."""
    home = image.root / "work" / "digits"
    if not home.is_dir():
        shutil.copytree(CHECKOUT / "examples" / "digits", home)
        for path in (home, *home.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    return home


def compressed_and_read_only(crs: Path, folder: Path) -> Path:
    """The reference string as bb downloads it, where its user cannot write: bb wants to unpack it there."""
    name = "bn254_g1_compressed.dat"
    packed = (
        (crs / name).read_bytes()
        if (crs / name).is_file()
        else compressed((crs / "bn254_g1.dat").read_bytes()[: 64 * 32_769])
    )
    folder.mkdir(mode=0o755)
    (folder / name).write_bytes(packed)
    return folder


def test_somebody_else_verifies(image: Image) -> None:
    home = example(image)
    done = image.run("verify", home / "bundle", "--commitments", home / "commitments", "--round", home / "round.toml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("VERIFIED")
    assert not (image.root / "tmp" / "cache").exists(), "verifying what ships needs no cache to write to"


def test_what_cannot_be_read_is_bad_input_and_refutes_nothing(image: Image) -> None:
    home = image.root / "work" / "closed"
    shutil.copytree(example(image), home)
    (home / "bundle" / "proof").chmod(0o600)
    done = image.run("verify", home / "bundle")
    assert done.returncode == 3, done.stdout
    assert "proof: cannot be read: Permission denied" in done.stderr
    home.chmod(0o700)
    assert image.run("verify", home / "bundle").returncode == 3


def test_somebody_else_proves_into_a_cache_of_their_own(image: Image, crs: Path) -> None:
    points = compressed_and_read_only(crs, image.root / "crs")
    home = image.root / "work" / "mine"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    for line in (f"simulate {home}/r -n 5 -d 20 --byzantine 1", f"prove {home}/r"):
        done = image.run(*line.split(), CRS_PATH=str(points))
        assert done.returncode == 0, done.stderr
    assert image.run("verify", home / "r" / "bundle", CRS_PATH=str(points)).returncode == 0
    theirs = image.root / "tmp" / "cache" / "zkkrum"
    assert theirs.stat().st_uid == NOBODY
    assert list(theirs.glob("compiled/*/round/target/vk"))
    assert not (image.root / "opt" / "zkkrum" / "cache" / "compiled").exists()
    # A third user takes nothing from what the second wrote.
    done = image.run("verify", home / "r" / "bundle", uid=NOBODY - 1, CRS_PATH=str(points))
    assert done.returncode == 7
    assert f"{image.root}/tmp/cache" in done.stderr
    assert "cache" in done.stderr


def test_the_image_is_sound_for_its_user(image: Image) -> None:
    done = image.run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 5, "everything but a reference string is there"
    for name in ("cache", "node", "nargo", "bb", "solc"):
        assert checks[name]["ok"], checks[name]
    assert "make / writable" not in done.stdout


def test_the_tools_belong_to_root_and_nobody_else_writes_them(image: Image) -> None:
    for path in (image.root / "opt").rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_uid == 0
            assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH), path
            assert path.stat().st_mode & stat.S_IROTH, path
