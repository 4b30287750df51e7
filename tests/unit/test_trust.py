"""What is local and trusted: the reference string, the cache, the PATH; and what a killed run leaves."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from support.points import compressed_points, folder_of, points
from zkkrum import extras, toolchain
from zkkrum.cli import main
from zkkrum.errors import ReferenceStringError, ResourceError, ToolFailedError, ToolMissingError
from zkkrum.files import ScratchFolder, abandoned, whole_folder, write_whole
from zkkrum.toolchain import Toolchain, cache, crs, process, provision
from zkkrum.toolchain.crs import BASE_FIELD
from zkkrum.toolchain.nargo import Nargo

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and home, and none of the user's overrides."""
    monkeypatch.setenv("ZKKRUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    for name in ("ZKKRUM_BB", "ZKKRUM_NARGO", "CRS_PATH", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    crs._checked.clear()


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def fake_tools() -> Path:
    """A tools folder that looks whole."""
    tools = cache.place("tools", provision.tools_name())
    program(provision.bb_path(tools), f"echo {toolchain.BB_VERSION}")
    (tools / "nargo.mjs").write_text("")
    cache.share(tools)
    return tools


def swapped(data: bytes, size: int, i: int, j: int) -> bytes:
    words = [data[at : at + size] for at in range(0, len(data), size)]
    words[i], words[j] = words[j], words[i]
    return b"".join(words)


def with_y(data: bytes, k: int, change: Callable[[int], int]) -> bytes:
    at = 64 * k + 32
    y = change(int.from_bytes(data[at : at + 32], "big"))
    return data[:at] + y.to_bytes(32, "big") + data[at + 32 :]


class TestReferenceString:
    """bb believes any file: a wrong one gives wrong keys, and valid proofs look invalid."""

    def refused(self, folder: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
        monkeypatch.setenv("CRS_PATH", str(folder))
        with pytest.raises(ReferenceStringError, match=why) as error:
            toolchain.Toolchain.find().reference_string(256)
        assert str(folder / "bn254_g1") in error.value.message
        assert error.value.exit_code == 5

    @pytest.mark.parametrize(("i", "j"), [(1, 2), (0, 1), (7, 255)])
    def test_two_points_swapped(self, i: int, j: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        why = "its first point is not the generator" if i == 0 else "SHA-256 of points 0 to 255"
        self.refused(folder_of(tmp_path / "a", swapped(points(256), 64, i, j)), monkeypatch, why)
        short = swapped(compressed_points(256), 32, i, j)
        self.refused(folder_of(tmp_path / "b", short, compressed=True), monkeypatch, why)

    def test_garbage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refused(folder_of(tmp_path / "a", os.urandom(64 * 300)), monkeypatch, "first point is not the generator")

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            pytest.param(lambda y: BASE_FIELD - y, "SHA-256", id="the other root"),
            pytest.param(lambda y: y + BASE_FIELD, "point 9 is not on the curve", id="not below the modulus"),
            pytest.param(lambda y: 2 * BASE_FIELD - y, "point 9 is not on the curve", id="same parity, other root"),
            pytest.param(lambda y: y + 2, "point 9 is not on the curve", id="same parity, off the curve"),
        ],
    )
    def test_a_wrong_y(
        self, change: Callable[[int], int], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only x and the parity of y are pinned; the curve and the modulus decide the rest of y."""
        self.refused(folder_of(tmp_path / "a", with_y(points(256), 9, change)), monkeypatch, why)

    def test_both_files_of_a_folder_are_looked_at(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = folder_of(tmp_path / "a", points(256))
        (folder / "bn254_g1_compressed.dat").write_bytes(swapped(compressed_points(512), 32, 300, 301))
        self.refused(folder, monkeypatch, r"bn254_g1_compressed.dat: .* SHA-256 of points 0 to 511")

    def test_no_point_is_used_that_no_pin_covers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = points(256) + os.urandom(64 * 200)
        monkeypatch.setenv("CRS_PATH", str(folder_of(tmp_path / "a", data)))
        assert toolchain.points_available() == 256
        toolchain.Toolchain.find().reference_string(256)
        assert crs.pinned(2**16) == 2**15 + 1
        assert crs.pinned(10**9) == 2**21

    def test_what_bb_has_unpacked_is_compared_with_where_it_came_from(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """bb reads the unpacked file first, and unpacks as many points as a circuit takes: pins cover some of them."""
        monkeypatch.setattr(crs, "PREFIXES", {256: crs.PREFIXES[256]})
        monkeypatch.setattr(crs, "CHUNK_POINTS", 512)
        monkeypatch.setattr(crs, "CHUNKS", (hashlib.sha256(compressed_points(512)).hexdigest(),))
        for name, data, why in (
            ("genuine", points(500), ""),
            ("swapped", swapped(points(500), 64, 400, 401), "its points from 256 on are not those of bn254_g1_comp"),
            ("other root", with_y(points(500), 400, lambda y: BASE_FIELD - y), "its points from 256 on are not"),
            ("garbage", points(256) + os.urandom(64 * 244), "its point 256 is not on the curve"),
        ):
            folder = folder_of(tmp_path / name, data)
            (folder / "bn254_g1_compressed.dat").write_bytes(compressed_points(512))
            monkeypatch.setenv("CRS_PATH", str(folder))
            if why:
                with pytest.raises(ReferenceStringError, match=why):
                    crs.look_up(400)
            else:
                assert crs.look_up(400) == folder

    def test_whole_chunks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As for files of 2^17 points and more, in small: every chunk is compared with its own pin."""
        monkeypatch.setattr(crs, "CHUNK_POINTS", 256)
        second = hashlib.sha256(compressed_points(512)[32 * 256 :]).hexdigest()
        monkeypatch.setattr(crs, "CHUNKS", (crs.PREFIXES[256], second))
        monkeypatch.setenv("CRS_PATH", str(folder_of(tmp_path / "a", points(512))))
        toolchain.Toolchain.find().reference_string(512)
        self.refused(folder_of(tmp_path / "b", swapped(points(512), 64, 400, 401)), monkeypatch, "points 256 to 511")
        self.refused(folder_of(tmp_path / "c", swapped(points(512), 64, 200, 401)), monkeypatch, "points 0 to 255")

    def test_compressed_points_in_a_folder_that_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """bb unpacks them into the folder it is given: that is then one of ours."""
        folder = folder_of(tmp_path / "a", compressed_points(256), compressed=True)
        monkeypatch.setenv("CRS_PATH", str(folder))
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: path != folder and access(path, mode))
        for _ in range(2):
            ours = toolchain.Toolchain.find().reference_string(256)
            assert ours.is_relative_to(tmp_path / "cache" / "points")
            assert (ours / "bn254_g1_compressed.dat").read_bytes() == compressed_points(256)
        (ours / "bn254_g1.dat").write_bytes(swapped(points(256), 64, 2, 3))
        with pytest.raises(ReferenceStringError, match="points"):
            toolchain.Toolchain.find().reference_string(256)
        monkeypatch.setattr(os, "access", access)
        assert toolchain.Toolchain.find().reference_string(256) == folder

    def test_is_checked_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = folder_of(tmp_path / "a", points(256)) / "bn254_g1.dat"
        monkeypatch.setenv("CRS_PATH", str(path.parent))
        looked: list[Path] = []
        really = crs._check_points

        def look(path: Path, size: int) -> None:
            looked.append(path)
            really(path, size)

        monkeypatch.setattr(crs, "_check_points", look)
        for _ in range(3):
            toolchain.Toolchain.find().reference_string(256)
        crs._checked.clear()  # as in another process
        toolchain.Toolchain.find().reference_string(256)
        assert looked == [path]
        (note,) = (tmp_path / "cache" / "checked").iterdir()
        assert json.loads(note.read_text())["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_another_file_of_the_same_size_and_time_is_checked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = folder_of(tmp_path / "a", points(256)) / "bn254_g1.dat"
        monkeypatch.setenv("CRS_PATH", str(path.parent))
        toolchain.Toolchain.find().reference_string(256)
        before = path.stat()
        path.write_bytes(swapped(points(256), 64, 3, 4))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_ino == before.st_ino
        with pytest.raises(ReferenceStringError):
            toolchain.Toolchain.find().reference_string(256)

    def test_a_check_may_neither_believe_nor_leave_notes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = folder_of(tmp_path / "a", swapped(points(256), 64, 1, 2))
        path = folder / "bn254_g1.dat"
        monkeypatch.setenv("CRS_PATH", str(folder))
        crs._note(path, 64, crs._stamp(path))  # as whoever writes to the cache could
        assert crs.look_up(256) == folder
        crs._checked.clear()
        with pytest.raises(ReferenceStringError, match="SHA-256 of points 0 to 255"):
            crs.look_up(256, remember=False)
        shutil.rmtree(tmp_path / "cache")
        path.write_bytes(points(256))
        assert crs.look_up(256, remember=False) == folder
        assert not (tmp_path / "cache" / "checked").exists()

    def test_a_note_about_other_contents_is_not_believed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = folder_of(tmp_path / "a", swapped(points(256), 64, 3, 4)) / "bn254_g1.dat"
        monkeypatch.setenv("CRS_PATH", str(path.parent))
        crs._note(path, 64, [*crs._stamp(path)])
        (note,) = (tmp_path / "cache" / "checked").iterdir()
        note.write_text(json.dumps({**json.loads(note.read_text()), "sha256": "0" * 64}))
        with pytest.raises(ReferenceStringError):
            toolchain.Toolchain.find().reference_string(256)

    def test_doctor_looks_at_it_and_changes_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.import_module("zkkrum.toolchain.doctor"), "POINTS_COMMON", 256)
        monkeypatch.setenv("CRS_PATH", str(folder_of(tmp_path / "a", points(256))))
        checks = {check.name: check for check in toolchain.doctor()}
        assert checks["reference string"].ok
        (tmp_path / "a" / "bn254_g1.dat").write_bytes(swapped(points(256), 64, 3, 4))
        checks = {check.name: check for check in toolchain.doctor()}
        assert not checks["reference string"].ok
        assert checks["reference string"].exit_code == 5
        assert not (tmp_path / "cache").exists()

    def test_no_home_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def nowhere() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", nowhere)
        assert crs.candidates() == []
        with pytest.raises(ReferenceStringError, match="no folder to look in") as error:
            toolchain.Toolchain.find().reference_string(256)
        assert "CRS_PATH" in error.value.hint


class TestCache:
    """Whoever can write there decides which program runs and which key a proof is checked with."""

    @pytest.mark.parametrize(
        "where", ["", "tools", "tools/*", "tools/*/nargo.mjs", "tools/*/**/bb", "tools/*/node_modules/@aztec"]
    )
    @pytest.mark.parametrize("mode", [0o020, 0o002])
    def test_that_others_can_write_is_refused(self, where: str, mode: int, tmp_path: Path) -> None:
        fake_tools()
        assert Toolchain.find(provision=False).bb.path.is_file()
        (path,) = (tmp_path / "cache").glob(where) if where else [tmp_path / "cache"]
        path.chmod(path.stat().st_mode | mode)
        with pytest.raises(ResourceError, match=f"others may write to {path} ") as error:
            _ = Toolchain.find(provision=False).bb
        assert error.value.hint.startswith("if nobody has, `chmod -R go-w ")
        command = error.value.hint.split("`")[1]
        subprocess.run(command, shell=True, check=True)
        assert Toolchain.find(provision=False).bb.path.is_file()

    @root_only
    @pytest.mark.parametrize("where", ["", "tools", "tools/*", "tools/*/**/bb"])
    def test_of_another_user_is_refused(self, where: str, tmp_path: Path) -> None:
        fake_tools()
        (path,) = (tmp_path / "cache").glob(where) if where else [tmp_path / "cache"]
        os.chown(path, 12345, 12345)
        with pytest.raises(ResourceError, match=f"{path} belongs to user 12345; expected root or you \\(0\\)") as error:
            _ = Toolchain.find(provision=False).bb
        assert error.value.exit_code == 7
        assert f"chown -R 0 {tmp_path / 'cache'}" in error.value.hint

    def test_below_a_folder_where_everybody_may_rename_is_refused(self, tmp_path: Path) -> None:
        fake_tools()
        tmp_path.chmod(0o777)
        with pytest.raises(ResourceError, match=f"everybody may rename what is in {tmp_path}"):
            provision.tools_dir()
        tmp_path.chmod(0o1777)
        provision.tools_dir()

    @pytest.mark.parametrize("mask", [0o002, 0o000, 0o077, 0o022])
    def test_is_made_so_that_others_read_and_do_not_write(self, mask: int, tmp_path: Path) -> None:
        with umask(mask):
            tools = fake_tools()
        provision.tools_dir()
        for path in (tmp_path / "cache", tools.parent, tools, *tools.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o755 if path.is_dir() or path.name == "bb" else 0o644), path

    def test_tools_an_older_zkkrum_left_to_their_user_alone_are_shared(self) -> None:
        tools = fake_tools()
        tools.chmod(0o700)
        assert provision.provision() == tools
        assert stat.S_IMODE(tools.stat().st_mode) == 0o755

    def test_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(ResourceError, match=f"cannot write to {tmp_path / 'cache'}") as error:
            cache.place("tools", "x")
        assert error.value.exit_code == 7
        assert "ZKKRUM_CACHE" in error.value.hint

    def test_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("")
        with pytest.raises(ResourceError, match="cannot write to"):
            cache.place("tools", "x")

    def test_that_is_full(self, tmp_path: Path) -> None:
        with pytest.raises(ResourceError, match="no space left") as error, cache.explained(tmp_path):
            raise OSError(28, "No space left on device")
        assert error.value.exit_code == 7

    def test_of_others_is_read_and_the_own_one_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shared, home = fake_tools(), tmp_path / "home" / ".cache" / "zkkrum"
        access = os.access
        closed = tmp_path / "cache"
        monkeypatch.setattr(
            os,
            "access",
            lambda path, mode: not (mode & os.W_OK and closed in (path, *path.parents)) and access(path, mode),
        )
        assert provision.provision() == shared
        assert cache.place("compiled", "x") == home / "compiled" / "x"
        assert cache.roots() == [closed, home]
        checks = {check.name: check for check in toolchain.doctor()}
        assert checks["cache"].ok
        assert f"read only; what is made here goes to {home}" in checks["cache"].found

    def test_no_home_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ZKKRUM_CACHE")
        monkeypatch.setattr("platformdirs.user_cache_path", lambda _: Path("~/.cache/zkkrum"))
        with pytest.raises(ResourceError, match="no home folder") as error:
            cache.cache_dir()
        assert "ZKKRUM_CACHE" in error.value.hint
        checks = {check.name: check for check in toolchain.doctor()}
        assert not checks["cache"].ok

    def test_doctor_never_advises_to_open_a_folder_of_the_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ZKKRUM_CACHE", "/nowhere/at/all")
        monkeypatch.setattr(os, "access", lambda path, mode: mode & os.W_OK == 0)
        checks = {check.name: check for check in toolchain.doctor()}
        assert not checks["cache"].ok
        assert checks["cache"].repair == "name a folder you can write to in ZKKRUM_CACHE"
        assert not any("make /" in check.repair for check in checks.values())


class TestPath:
    """A program found through the folder we happen to stand in is whoever's that folder is."""

    @pytest.mark.parametrize("entry", ["", ".", "bin", "./bin"])
    @pytest.mark.parametrize("name", ["node", "nargo"])
    def test_relative_entries_are_refused(
        self, entry: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_tools()
        program(tmp_path / "work" / entry / name, f"touch {tmp_path}/ran")
        monkeypatch.chdir(tmp_path / "work")
        monkeypatch.setenv("PATH", f"{entry}{os.pathsep}/nonexistent")
        monkeypatch.setattr(provision, "_wheel_root", lambda: None)
        said: list[str] = []
        with pytest.raises(ToolMissingError, match=r"Node\.js") as error:
            _ = Toolchain.find(provision=False, notify=said.append).nargo
        words = error.value.message if name == "node" else said[0]
        assert f"refusing {os.path.join(entry, name)}: the PATH names its folder by a relative" in words  # noqa: PTH118
        assert not (tmp_path / "ran").exists()

    def test_an_absolute_entry_behind_it_is_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program(tmp_path / "work" / "nargo", f"touch {tmp_path}/ran")
        good = program(tmp_path / "bin" / "nargo", f"echo nargo version = {toolchain.NOIR_VERSION}")
        monkeypatch.chdir(tmp_path / "work")
        monkeypatch.setenv("PATH", f"{os.pathsep}{good.parent}{os.pathsep}{os.environ['PATH']}")
        assert Toolchain.find(provision=False).nargo.command == (good,)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(("variable", "tool"), [("ZKKRUM_NARGO", "nargo"), ("ZKKRUM_BB", "bb")])
    def test_named_tools_are_named_absolutely(self, variable: str, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_tools()
        for value in (tool, f"./{tool}"):
            monkeypatch.setenv(variable, value)
            with pytest.raises(ToolMissingError, match=f"{variable}: expected an absolute path, found '{value}'"):
                getattr(Toolchain.find(provision=False), tool)

    def test_npm_gets_no_relative_entries_either(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", os.pathsep.join(["", ".", "/usr/bin", "bin", "/bin"]))
        assert process.search_path() == "/usr/bin:/bin"


class TestLazily:
    def test_finding_starts_and_installs_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(subprocess, "Popen", None)
        Toolchain.find().close()
        assert not (tmp_path / "cache").exists()

    def test_bb_needs_no_node(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tools = fake_tools()
        monkeypatch.setattr(provision, "find_node", None)
        assert Toolchain.find(provision=False).bb.path == provision.bb_path(tools)
        assert Toolchain.find(provision=True).bb.path == provision.bb_path(tools)


class TestHome:
    """npm wants a home and a cache of its own; where there is none, it gets one in ours."""

    @pytest.fixture
    def npm(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        program(tmp_path / "bin" / "node", "echo v22.0.0")
        monkeypatch.setattr(provision, "_wheel_root", lambda: None)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("npm_config_cache", raising=False)
        bb = provision.bb_path(Path())
        installs = f"mkdir -p {bb.parent}\nprintf '#!/bin/sh\\necho {toolchain.BB_VERSION}\\n' > {bb}"
        return program(tmp_path / "bin" / "npm", f'echo "$HOME:$npm_config_cache" > {tmp_path}/saw\n{installs}')

    def test_a_usable_home_is_left_alone(self, npm: Path, tmp_path: Path) -> None:
        (tmp_path / "home").mkdir()
        provision.provision()
        assert (tmp_path / "saw").read_text() == f"{tmp_path / 'home'}:\n"

    def test_no_home(self, npm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/nonexistent/home")
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: path != Path("/") and access(path, mode))
        provision.provision()
        home, npm_cache = (tmp_path / "saw").read_text().strip().split(":")
        assert Path(home).is_relative_to(tmp_path / "cache" / "tools")
        assert Path(npm_cache).is_relative_to(tmp_path / "cache" / "tools")
        assert {p.name for p in (tmp_path / "cache" / "tools").iterdir()} == {".lock", provision.tools_name()}

    def test_a_home_that_cannot_be_written(self, npm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """npm still finds its settings there, but writes into our cache."""
        home = tmp_path / "home"
        home.mkdir()
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: path != home and access(path, mode))
        provision.provision()
        seen, npm_cache = (tmp_path / "saw").read_text().strip().split(":")
        assert seen == str(home)
        assert Path(npm_cache).is_relative_to(tmp_path / "cache" / "tools")


class TestLogs:
    """They may be sent to us, and stand in a cache that others may read."""

    def test_only_we_can_read_them(self, tmp_path: Path) -> None:
        with umask(0):
            path = process.keep_log("bb prove", process.Completed(1, "out", "err"))
        assert path
        assert path.parent == tmp_path / "cache" / "logs"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_go_elsewhere_where_the_cache_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("")
        path = process.keep_log("bb prove", process.Completed(1, "out", "err"))
        assert path
        assert path.parent == tmp_path / "tmp"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "err" in path.read_text()

    def test_hold_no_inputs(self, tmp_path: Path) -> None:
        (tmp_path / "target").mkdir()
        (tmp_path / "Nargo.toml").write_text('[package]\nname = "tiny"\n')
        (tmp_path / "target" / "tiny.json").write_text("{}")
        words = "error: the value of x is invalid: 4711 [-815,0x2a] v=99 at src/main.nr:6:12"
        nargo = Nargo((program(tmp_path / "nargo", f'echo "{words}" >&2; exit 1'),), serves=False, version="")
        with pytest.raises(ToolFailedError) as error:
            nargo.execute(tmp_path)
        log = Path(error.value.hint.partition("log: ")[2]).read_text()
        for text in (log, error.value.message):
            assert "the value of x is invalid: # [-#,#] v=# at src/main.nr:6:12" in text
            assert "4711" not in text


def grow_old(folder: Path) -> None:
    os.utime(folder, (time.time() - 3600,) * 2)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from zkkrum.files import ScratchFolder, whole_folder
    from zkkrum.toolchain import cache
    {body}
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(body: str) -> None:
    """Run Python in a process that ends by kill -9."""
    script = textwrap.dedent(KILLED).replace("{body}", body)
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9


class TestLeftovers:
    """What a kill -9 leaves is said by doctor, and removed by the next run or by doctor --clean."""

    def test_doctor_says_and_removes_it(self, tmp_path: Path) -> None:
        killed("a = ScratchFolder(); (Path(a.name) / 'inputs.toml').write_text('secret')")
        killed("parent = cache.place('compiled', 'x').parent; a = ScratchFolder(parent, cache.BUILDING)")
        killed("parent = cache.place('tools', 'x').parent; a = ScratchFolder(parent, cache.PARTIAL)")
        assert cache.leftovers() == [], "they might be held in a moment"
        made = [*(tmp_path / "tmp").iterdir(), *(tmp_path / "cache").glob("*/.*")]
        assert len(made) == 3
        for folder in made:
            grow_old(folder)
        (check,) = [check for check in toolchain.doctor() if check.name == "leftovers"]
        assert not check.ok
        assert not check.required
        assert (check.found, check.repair) == ("3 files or folders that killed runs left", "zkkrum doctor --clean")
        assert "leftovers: zkkrum doctor --clean" in CliRunner().invoke(main, ["doctor"]).output
        result = CliRunner().invoke(main, ["doctor", "--clean"])
        assert all(f"removed: {folder}" in result.stderr.replace("\n", "") for folder in made)
        assert not any(folder.exists() for folder in made)
        assert cache.leftovers() == []

    def test_what_is_in_use_stays(self) -> None:
        with ScratchFolder() as folder:
            grow_old(Path(folder))
            assert cache.clean() == []
            assert Path(folder).is_dir()

    @root_only
    def test_what_is_anothers_stays(self, tmp_path: Path) -> None:
        folder = tmp_path / "tmp" / "zkkrum-run-theirs"
        folder.mkdir()
        grow_old(folder)
        os.chown(folder, 12345, 12345)
        assert cache.clean() == []

    def test_the_next_run_removes_the_unfinished_folder_of_a_killed_one(self, tmp_path: Path) -> None:
        target = tmp_path / "bundle"
        killed(f"c = whole_folder(Path('{target}')); (c.__enter__() / 'half').write_text('')")
        (left,) = tmp_path.glob(".bundle.writing-*")
        grow_old(left)
        mine = tmp_path / ".bundle.work"  # somebody else's business
        mine.mkdir()
        grow_old(mine)
        with whole_folder(target) as folder:
            (folder / "file").write_text("whole")
        assert {p.name for p in tmp_path.iterdir()} >= {"bundle", ".bundle.work"}
        assert not left.exists()
        assert [p.name for p in target.iterdir()] == ["file"]

    def test_a_folder_lost_between_two_renames_comes_back(self, tmp_path: Path) -> None:
        old = tmp_path / ".bundle.writing-abc-old"
        old.mkdir()
        (old / "file").write_text("the old bundle")
        with pytest.raises(RuntimeError), whole_folder(tmp_path / "bundle"):
            raise RuntimeError
        assert (tmp_path / "bundle" / "file").read_text() == "the old bundle"

    def test_only_folders_nobody_holds_are_abandoned(self, tmp_path: Path) -> None:
        (tmp_path / "x-1").mkdir()
        grow_old(tmp_path / "x-1")
        (tmp_path / "x-2").write_text("a file")
        grow_old(tmp_path / "x-2")
        (tmp_path / "x-3").symlink_to(tmp_path / "x-1")
        (tmp_path / "x-4").mkdir()
        assert abandoned(tmp_path, "x-*") == [tmp_path / "x-1"]


def test_files_are_on_the_disk_before_they_have_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut leaves an empty file under the right name: an empty key, a lost salt."""
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(handle: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def watched_replace(self: Path, target: Path) -> Path:
        events.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    write_whole(tmp_path / "salt", b"secret", mode=0o600)
    assert events == ["file", "name", "folder"]
    events.clear()
    with whole_folder(tmp_path / "bundle") as folder:
        (folder / "vk").write_bytes(b"key")
    assert events.count("file") == 1
    assert events.count("folder") == 2


class TestExtras:
    def test_one_that_this_python_cannot_have_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 13, 0))
        with pytest.raises(ToolMissingError) as error:
            extras.require("pyrevm_that_is_not_there", "evm")
        assert (
            error.value.hint
            == "zkkrum[evm] can be had on Python 3.11 and 3.12 only, and this is 3.13: use one of those"
        )
        assert extras.how_to_get("plot") == (True, f"install zkkrum[plot]: {extras.how_to_install('plot')}")

    def test_are_those_of_the_project_file(self) -> None:
        """Whatever an extra cannot have on some Python stands in both places."""
        text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
        section = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
        own = section.partition("\ntest = ")[0]  # the tests' own tools come and go
        bound = {line.split(" = ")[0]: line for line in own.splitlines() if "python_version" in line}
        assert bound.keys() == extras.ONLY_ON.keys() == {"evm"}
        assert "python_version >= '3.11' and python_version < '3.13'" in bound["evm"]
        assert extras.ONLY_ON["evm"] == ((3, 11), (3, 12))
