"""Bundles and rounds of strangers on the command line: what cannot lie, hang or exhaust, and who may read what."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from support.proving import CLIP, Example, Forgery, example, forged, material_of, rejected, vectors
from support.scripts import load_script
from zkkrum.cli import main
from zkkrum.cli.console import labels_of, printable
from zkkrum.errors import EXIT_UNEXPECTED, InputError, ToolFailedError
from zkkrum.proof.build import build, gates
from zkkrum.proof.bundle import MANIFEST_BYTES
from zkkrum.proof.circuit import round_circuit
from zkkrum.proof.form import Form
from zkkrum.proof.jobs import dask_executor, require_private
from zkkrum.proof.material import Material
from zkkrum.proof.prove import prove
from zkkrum.proof.verify import verify
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.parties import Terms, open_round
from zkkrum.rounds.tensors import SINGLE
from zkkrum.rounds.updates import flatten
from zkkrum.toolchain import Toolchain, bb

NAMES = ("$x_{$", "[bold]a, b", "'; flagged: 'c", ":heart:", 'zoë "quoted" 東京')
"""Ids that are allowed, and that a table, a sentence, a picture or a page could take for something else."""


def cli(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in arguments])


@pytest.fixture(scope="module")
def one(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Example:
    return example(tmp_path_factory.mktemp("one"), toolchain, Form.ROUND)


@pytest.fixture(scope="module")
def sharded(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Example:
    return example(tmp_path_factory.mktemp("sharded"), toolchain, Form.SHARDED)


@pytest.fixture(scope="module")
def named(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Example:
    """A round of clients with names that look like something else, the last flagged."""
    folder = tmp_path_factory.mktemp("named")
    values = vectors(5)
    round = open_round(NAMES, values[0].size, CLIP, Terms())
    updates = [flatten({SINGLE: value}, client) for client, value in zip(NAMES, values, strict=True)]
    home = RoundDirectory(folder / "round")
    Material.commit(round, updates, toolchain.bb.hash_many, by_clients=True).save(home)
    material = material_of(home, toolchain)
    return Example(home, material, prove(material, folder / "round" / "bundle", toolchain))


# Files of a bundle


def link_elsewhere(path: Path) -> None:
    elsewhere = path.parent.parent.parent / "elsewhere"
    shutil.copyfile(path, elsewhere)
    path.unlink()
    path.symlink_to(elsewhere)


def link_to_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_hole(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(2**40)


@pytest.mark.parametrize("strange", [link_elsewhere, link_to_device, make_fifo, make_hole])
@pytest.mark.parametrize("name", ["proof", "vk", "public_inputs", "shards/00001.proof", "shards/00002.public_inputs"])
def test_a_file_that_is_none(
    sharded: Example, tmp_path: Path, toolchain: Toolchain, name: str, strange: Callable[[Path], None]
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(sharded.bundle, bundle)
    strange(bundle / name)
    rejected(bundle, toolchain, f"{name}: expected at most" if strange is make_hole else f"{name}: Not a plain file")


def test_a_folder_behind_a_link(sharded: Example, tmp_path: Path, toolchain: Toolchain) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(sharded.bundle, bundle)
    (bundle / "shards").rename(tmp_path / "shards")
    (bundle / "shards").symlink_to(tmp_path / "shards")
    rejected(bundle, toolchain, "shards/00000.proof: shards is not a plain folder")


def test_gigabytes_in_few_kilobytes_are_refused_before_any_is_read(
    sharded: Example, tmp_path: Path, toolchain: Toolchain
) -> None:
    """Every shard's file a link to the same hole, as it was found."""
    bundle = tmp_path / "bundle"
    shutil.copytree(sharded.bundle, bundle)
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(60 * 2**20)
    for path in (bundle / "shards").iterdir():
        path.unlink()
        path.symlink_to(tmp_path / "hole")
    tracemalloc.start()
    try:
        rejected(bundle, toolchain, "Not a plain file")
        for path in (bundle / "shards").iterdir():
            path.unlink()
            os.link(tmp_path / "hole", path)
        rejected(bundle, toolchain, "shards/00000.proof: expected at most 16,320 bytes, found 62,914,560")
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_a_manifest_that_is_none_decides_nothing(one: Example, tmp_path: Path) -> None:
    for strange, said in (
        (make_fifo, "Not a plain file"),
        (link_elsewhere, "Not a plain file"),
        (make_hole, "Too large"),
    ):
        bundle = tmp_path / strange.__name__ / "bundle"
        shutil.copytree(one.bundle, bundle)
        strange(bundle / "manifest.json")
        for command in ("verify", "inspect"):
            done = cli(command, bundle)
            assert done.exit_code == InputError.exit_code
            assert f"not a bundle: manifest.json: {said}" in done.output


def test_a_bb_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: Example) -> None:
    program = tmp_path / "bb"
    program.write_text("#!/bin/sh\nsleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(bb, "VERIFY_SECONDS", 0.3)
    vk, proof, inputs = ((one.bundle / name).read_bytes() for name in ("vk", "proof", "public_inputs"))
    with pytest.raises(ToolFailedError, match=r"bb verify: no answer within 0\.3 seconds"):
        bb.Bb(program).verify(vk, proof, inputs)


@pytest.mark.parametrize("signal", ["SEGV", "ABRT"])
def test_a_bb_that_crashes_decides_nothing(tmp_path: Path, one: Example, signal: str) -> None:
    program = tmp_path / "bb"
    program.write_text(f"#!/bin/sh\nkill -{signal} $$\n")
    program.chmod(0o755)
    vk, proof, inputs = ((one.bundle / name).read_bytes() for name in ("vk", "proof", "public_inputs"))
    with pytest.raises(ToolFailedError, match="ended by signal"):
        bb.Bb(program).verify(vk, proof, inputs)


# Names


def quiet(text: str) -> str:
    """What a terminal obeys has no place in what we say."""
    assert all(c.isprintable() or c == "\n" for c in text), ascii(text)
    return text


def test_names_stay_names(named: Example, tmp_path: Path) -> None:
    said = quiet(cli("verify", named.bundle).output)
    assert f"the verdict is: flagged: {NAMES[-1]!r}. Krum selects:" in said
    for command in (("inspect", named.bundle), ("report", named.home.path, "-o", tmp_path / "r.html")):
        done = cli(*command)
        assert done.exit_code == 0, done.output
        quiet(done.output)
    shown = cli("inspect", named.bundle).output
    for client in NAMES:
        assert f"leaf[{client}]" in shown.replace("\n", "")
    page = (tmp_path / "r.html").read_text()
    assert "&#39;zoë &#34;quoted&#34; 東京&#39;" in page
    assert "$x_{$" in page


def test_the_table_of_a_proof(named: Example, tmp_path: Path) -> None:
    shutil.copytree(named.home.path, tmp_path / "round", ignore=shutil.ignore_patterns("bundle"))
    done = cli("prove", tmp_path / "round")
    assert done.exit_code == 0, done.output
    for client in NAMES:
        assert any(line.startswith(repr(client)) for line in quiet(done.output).splitlines())


def test_no_id_is_a_place_in_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id too long for a terminal is named by its place: another client's id cannot be that place."""
    monkeypatch.setattr("zkkrum.cli.console.on_terminal", lambda: True)
    roster = ("x" * 60, "#0", "flagged", "'#0'")
    labels = labels_of(roster)
    assert labels == {"x" * 60: "#0", "#0": "'#0'", "flagged": "'flagged'", "'#0'": "\"'#0'\""}


def test_a_device_is_not_replaced(one: Example, tmp_path: Path) -> None:
    """What stands there is no page of ours: a FIFO here, /dev/null for who is root."""
    os.mkfifo(tmp_path / "page.html")
    done = cli("report", one.bundle, "-o", tmp_path / "page.html")
    assert done.exit_code == InputError.exit_code
    assert "is there already, and no plain file" in done.output
    assert stat.S_ISFIFO((tmp_path / "page.html").lstat().st_mode)


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m["round"].__setitem__("roster", [1] * 600_000),
        lambda m: m.__setitem__("public_inputs", [{}] * 500_000),
        lambda m: m.__setitem__("files", {str(k): 1 for k in range(120_000)}),
        lambda m: m.__setitem__("circuits", {str(k): {} for k in range(120_000)}),
        lambda m: m.update({f"x{k}": 1 for k in range(120_000)}),
    ],
    ids=["roster", "inputs", "files", "circuits", "fields"],
)
def test_a_hundred_thousand_wrong_entries(
    one: Example, tmp_path: Path, toolchain: Toolchain, edit: Callable[[dict[str, Any]], None]
) -> None:
    """The first is complained of, and not all of them: that took gigabytes."""
    bundle = Path(shutil.copytree(one.bundle, tmp_path / "bundle"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    edit(manifest)
    text = json.dumps(manifest, separators=(",", ":"))
    assert len(text) < MANIFEST_BYTES
    (bundle / "manifest.json").write_text(text)
    tracemalloc.start()
    try:
        rejected(bundle, toolchain, "manifest: ")
        assert tracemalloc.get_traced_memory()[1] < 48 * 2**20
    finally:
        tracemalloc.stop()


def test_a_layout_of_millions_of_entries(one: Example, tmp_path: Path, toolchain: Toolchain) -> None:
    with np.load(one.proved.aggregate) as file:
        arrays: dict[str, Any] = {name: file[name] for name in file.files}
    layout = b"[" + b"1," * (2**23 - 2) + b"1]"
    np.savez_compressed(tmp_path / "a.npz", **{**arrays, "layout": np.frombuffer(layout, np.uint8)})
    assert (tmp_path / "a.npz").stat().st_size < 2**16
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="layout: 0: Input should be a valid array"):
            verify(one.bundle, toolchain, aggregate=tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 80 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["x" * 1001, "__metadata__", "a\0b", "a\nb", "\x1b[2J"])
def test_names_of_tensors_that_no_file_can_hold(one: Example, tmp_path: Path, toolchain: Toolchain, name: str) -> None:
    d = one.round.params.d
    with np.load(one.proved.aggregate) as file:
        arrays: dict[str, Any] = {key: file[key] for key in file.files}
    layout = np.frombuffer(json.dumps([[name, [d], "float32"]]).encode(), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", **{**arrays, "layout": layout})
    with pytest.raises(InputError, match="layout: expected names of tensors of at most 1,000 bytes"):
        verify(one.bundle, toolchain, aggregate=tmp_path / "a.npz")
    with pytest.raises(InputError, match="expected names of tensors of at most 1,000 bytes"):
        flatten({name: np.zeros(d, np.float32)}, "alice")


def test_damaged_notes_of_the_cache_are_made_anew(one: Example, tmp_path: Path, toolchain: Toolchain) -> None:
    built = build(round_circuit(one.round.params), toolchain)
    note = built.folder / "target" / "gates.made.json"
    count = gates(built, toolchain)
    kept = note.read_bytes()
    try:
        for damaged in (b'{"gates": 1e999}', b"[" * 100_000, b"", b'{"gates": true}'):
            note.write_bytes(damaged)
            assert gates(built, toolchain) == count
            assert json.loads(note.read_bytes())["gates"] == count
    finally:
        note.write_bytes(kept)


def test_more_clients_than_there_are_names_for() -> None:
    for command in ("estimate", "simulate"):
        done = cli(command, "-n", str(10**20), "-d", "5")
        assert done.exit_code == InputError.exit_code
        assert "n (clients) must be in [3, 253]" in done.output


ESCAPES = "\x1b[2J\x1b]0;owned\x07[bold]\u202e\n"


def test_inspect_shows_what_a_terminal_would_obey(one: Example, tmp_path: Path) -> None:
    def edit(forgery: Forgery) -> None:
        manifest = forgery.manifest
        manifest["zkkrum"] = manifest["noir"] = manifest["round"]["subject"] = ESCAPES
        manifest["round"]["parameters"]["score"] = manifest["public_inputs"][0]["value"] = ESCAPES
        manifest["public_inputs"][1]["name"] = manifest["circuits"]["vk"]["crate"] = ESCAPES
        manifest["seconds"][ESCAPES] = 1.0
        manifest["circuits"][ESCAPES] = manifest["circuits"]["vk"]

    path = forged(one.bundle, tmp_path / "bundle", edit, fix=False)
    done = cli("inspect", path)
    assert done.exit_code == 0
    assert r"\x1b[2J\x1b]0;owned\x07[bold]\u202e\n" in quiet(done.output).replace("\n", "")
    quiet(cli("inspect", path, "--json").output)
    quiet(cli("verify", path).output)


def test_names_of_files_are_not_obeyed(one: Example, tmp_path: Path) -> None:
    home = tmp_path / "round"
    shutil.copytree(one.home.path, home)
    (home / "openings" / "x\x1b[2J\nVERIFIED: all is well.npz").touch()
    done = cli("report", home)
    assert done.exit_code == InputError.exit_code
    assert r"x\x1b[2J\nVERIFIED" in quiet(done.output)
    assert not any(line.startswith("VERIFIED") for line in done.output.splitlines())


def test_printable() -> None:
    assert printable("zoë 東京 \\") == "zoë 東京 \\"
    assert printable("\x1b\n\u202e\udcff\U000e0041") == r"\x1b\n\u202e\udcff\U000e0041"


# What was compared


def test_strict(one: Example) -> None:
    home = one.home
    outside = {"commitments": home.commitments, "round": home.round_file}
    for given in ((), ("commitments",), ("round",), ("commitments", "round")):
        options = [word for name in given for word in (f"--{name}", outside[name])]
        missing = [name for name in outside if name not in given]
        done, lax = cli("verify", one.bundle, "--strict", *options), cli("verify", one.bundle, *options)
        assert lax.exit_code == 0
        assert done.exit_code == (EXIT_UNEXPECTED if missing else 0)
        assert ("NOT STRICT" in done.output) == bool(missing)
        assert all(f"--{name}" in done.output for name in missing)
        found = json.loads(cli("verify", one.bundle, "--strict", "--json", *options).stdout)
        assert found["ok"]
        assert found["strict"]
        assert found["not_compared"] == missing
        assert found["compared"] == {
            **{name: str(path) if name in given else None for name, path in outside.items()},
            "aggregate": None,
        }


def test_strict_is_no_excuse_for_an_invalid_proof(one: Example, tmp_path: Path) -> None:
    path = forged(one.bundle, tmp_path / "bundle", lambda forgery: forgery.flip("proof", 99))
    assert cli("verify", path, "--strict").exit_code == 1


def test_an_aggregate_is_compared_where_it_is_given(one: Example) -> None:
    found = json.loads(cli("verify", one.bundle, "--json", "--aggregate", one.proved.aggregate).stdout)
    assert found["compared"]["aggregate"] == str(one.proved.aggregate)


def test_claims_are_marked(one: Example, tmp_path: Path, toolchain: Toolchain) -> None:
    """Whatever the maker says of itself changes no verdict, and stands apart."""

    def edit(forgery: Forgery) -> None:
        forgery.manifest |= {"commitments_by": "server", "seconds": {"prove": 0.001}, "zkkrum": "99"}
        forgery.manifest["circuits"]["vk"]["gates"] = 7

    path = forged(one.bundle, tmp_path / "bundle", edit)
    checked = verify(path, toolchain)
    assert checked.ok
    assert checked.claims["circuits"]["vk"]["gates"] == 7
    found = json.loads(cli("verify", path, "--json").stdout)
    assert found["claims"]["commitments_by"] == "server"
    assert found["claims"]["seconds"] == {"prove": 0.001}
    assert found["claims"]["versions"]["zkkrum"] == "99"
    assert not {"commitments_by", "seconds", "circuits", "zkkrum"} & found.keys()
    shown = cli("inspect", path).output
    for part in ("by the server", "0.001 s of prove", "zkkrum 99", "7 gates of vk"):
        (line,) = [line for line in shown.splitlines() if part in line]
        assert line.startswith("unverified ")
    unverified = json.loads(cli("inspect", path, "--json").stdout)["unverified"]
    assert unverified == ["circuits", "commitments_by", "seconds", "versions"]
    cli("report", path, "-o", tmp_path / "page.html")
    assert "nothing can verify it" in (tmp_path / "page.html").read_text()


# Who may read what


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_private_is_private_on_disk(one: Example, tmp_path: Path) -> None:
    assert cli("simulate", tmp_path / "round", "-n", "5", "-d", "40").exit_code == 0
    home = RoundDirectory(tmp_path / "round")
    for folder in (home.updates, home.openings):
        assert {mode(path) for path in folder.iterdir()} == {0o600}
    assert cli("report", home.path, "-o", tmp_path / "round.html").exit_code == 0
    assert mode(tmp_path / "round.html") == 0o600
    assert cli("report", one.bundle, "-o", tmp_path / "bundle.html").exit_code == 0
    assert mode(tmp_path / "bundle.html") == 0o644


# Dask

CLEAR = ("tcp://192.0.2.1:8786", "192.0.2.1:8786", "tcp://example.org:8786", "ws://192.0.2.1:80", "ucx://10.0.0.1:1")
PRIVATE = (
    "tls://192.0.2.1:8786",
    "wss://192.0.2.1:80",
    "tcp://127.0.0.1:8786",
    "127.0.0.1:8786",
    "localhost:8786",
    "tcp://[::1]:8786",
    "tcp://127.9.9.9:1",
    "inproc://192.0.2.1/1/2",
)


@pytest.mark.parametrize("address", CLEAR)
def test_openings_travel_in_the_clear_only_when_asked(address: str, one: Example) -> None:
    with pytest.raises(InputError, match="in the clear") as raised:
        require_private(address)
    assert "--insecure-scheduler" in raised.value.hint
    require_private(address, insecure=True)
    with pytest.raises(InputError, match="in the clear"), dask_executor(address):
        pass
    done = cli("prove", one.home.path, "--scheduler", address, "-o", one.home.path / "never")
    assert done.exit_code == InputError.exit_code
    assert "in the clear" in done.output


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    require_private(address)


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1.example.org:1", "tcp://localhost.example.org:1", "tcp://:8786", ""]
)
def test_addresses_that_look_like_ours(address: str) -> None:
    with pytest.raises(InputError, match="in the clear"):
        require_private(address)


def test_the_flag_needs_a_scheduler(one: Example) -> None:
    assert cli("prove", one.home.path, "--insecure-scheduler").exit_code == 2


# All of it together


def test_fuzz(one: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few of the cases of scripts/fuzz.py, which runs commands in children with limits."""
    fuzz: Any = load_script("fuzz")
    home = tmp_path / "world" / "round"
    shutil.copytree(one.home.path, home)
    shutil.copytree(one.bundle, home / "bundle")
    shutil.copyfile(one.proved.aggregate, home / "aggregate.npz")
    home.joinpath("truth.json").write_text(json.dumps({"byzantine": [], "attack": "", "strength": None, "seed": 0}))
    if not (home / "updates").is_dir():
        (home / "updates").mkdir()
        for client, value in zip(one.round.roster, vectors(1), strict=True):
            np.save(home / "updates" / f"{client}.npy", value)
    monkeypatch.setattr(fuzz, "ROUNDS", ("round",))
    for number in range(25):
        outcome = fuzz.run_case(fuzz.World(tmp_path / "world"), 1, number, tmp_path)
        assert not outcome.wrong, f"{outcome.title}: {outcome.wrong}\n{outcome.said}"


def test_a_case_that_goes_wrong_is_told() -> None:
    fuzz: Any = load_script("fuzz")
    assert fuzz.wrong("verify", 0, "VERIFIED\n") == ""
    assert "hangs" in fuzz.wrong("verify", None, "")
    assert "exit code 70" in fuzz.wrong("verify", 70, "")
    assert "SIGSEGV" in fuzz.wrong("verify", -11, "")
    assert "memory" in fuzz.wrong("verify", 7, "")
    assert "traceback" in fuzz.wrong("verify", 3, "Traceback (most recent call last)")
    assert r"\x1b" in fuzz.wrong("verify", 0, "\x1b[2J")
