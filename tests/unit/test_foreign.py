"""What strangers send: files that would hang or exhaust, texts that mean two things, ids that mislead."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support.scripts import load_script
from zkkrum.errors import InputError, ZkkrumError
from zkkrum.learning.simulate import simulated_updates, write_round
from zkkrum.proof.bundle import MANIFEST_BYTES, Manifest, read_manifest
from zkkrum.proof.form import MANIFEST
from zkkrum.proof.material import load
from zkkrum.proof.statement import round_words, sentence
from zkkrum.protocol.aggregate import Aggregate
from zkkrum.protocol.krum import Verdict
from zkkrum.protocol.params import ID_BYTES_MAX, Params, Round, folded
from zkkrum.protocol.poseidon2 import hash_many
from zkkrum.report.page import of_path
from zkkrum.rounds.aggregate import AggregateFile, load_aggregate
from zkkrum.rounds.directory import RoundDirectory, Truth, load_opening, read_commitments, read_truth
from zkkrum.rounds.foreign import open_inside, open_plain, parse_json, read_plain, read_toml
from zkkrum.rounds.parties import Terms
from zkkrum.rounds.roundfile import load_round
from zkkrum.rounds.tensors import TensorSpec
from zkkrum.rounds.updates import load_update

N, D = 5, 30
CHILD_MEGABYTES = 48


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RoundDirectory:
    """A round with updates in one file each, and beside it a manifest and an aggregate."""
    path = tmp_path_factory.mktemp("foreign") / "round"
    tensors, attackers = simulated_updates(N, D, 1, "gaussian", None, 0.0, seed=1)
    truth = Truth(byzantine=tuple(f"client-0{i}" for i in attackers), attack="gaussian", strength=None, seed=1)
    round = write_round(path, tensors, truth, hash_many, Terms(b=8), ".npz")
    verdict = Verdict(False, (), (0,))
    manifest = Manifest.describe(
        round,
        by_clients=True,
        commitments=[bytes(32)] * N,
        aggregate=bytes(32),
        verdict=verdict,
        words=round_words(round, 1, range(N + 1), verdict),
        gates={"vk": 1},
        files={"proof": b"p"},
        seconds={"prove": 1.5},
    )
    (path / "bundle").mkdir()
    (path / "bundle" / MANIFEST).write_text(manifest.model_dump_json(indent=2))
    aggregate = Aggregate(np.zeros(D, np.int64), 5)
    AggregateFile(aggregate, N, 8, round.clip, (TensorSpec("update", (D,), "float32"),)).save(path / "aggregate.npz")
    return RoundDirectory(path)


@pytest.fixture
def directory(made: RoundDirectory, tmp_path: Path) -> RoundDirectory:
    return RoundDirectory(Path(shutil.copytree(made.path, tmp_path / "round")))


# Files


def put_fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def put_device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def put_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def put_hole(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(2**36)


STRANGE = (put_fifo, put_device, put_folder, put_hole)


def read_every(home: RoundDirectory, name: str) -> object:
    """Read one of the files of a round as commands do."""
    round = load_round(home.round_file)
    path = home.path / name
    if "commitments" in name:
        return read_commitments(home.commitments, round.roster)
    if "openings" in name:
        return home.load_openings(round)
    if "updates" in name:
        return home.load_updates(round.roster, round.params.d)
    if name == "aggregate.npz":
        load_aggregate(path, round.params.d).check(round, name)
        return None
    if name == "truth.json":
        return read_truth(home)
    if MANIFEST in name:
        return read_manifest(path.parent)
    return None


FILES = (
    "round.toml",
    "commitments/client-01.json",
    "openings/client-01.npz",
    "updates/client-01.npz",
    "aggregate.npz",
    "truth.json",
    f"bundle/{MANIFEST}",
)


@pytest.mark.parametrize("put", STRANGE)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_plain_file_or_too_large_is_refused(
    directory: RoundDirectory, name: str, put: Callable[[Path], None]
) -> None:
    """At once: a FIFO would wait for its other end for ever, a device or a hole fill the memory."""
    read_every(directory, name)
    put(directory.path / name)
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as raised:
            read_every(directory, name)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    assert str(directory.path) in raised.value.message
    if "client" in name and "commitments" not in name:
        assert "client 'client-01'" in raised.value.message


def test_links_inside_a_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "b" / "shards").mkdir(parents=True)
    (tmp_path / "b" / "shards" / "0").write_bytes(b"x")
    (tmp_path / "other").symlink_to(tmp_path / "b")  # the folder itself may be one: its user named it
    with open_inside(tmp_path / "other", "shards/0") as file:
        assert file.read() == b"x"
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "shards").symlink_to(tmp_path / "b" / "shards")
    (tmp_path / "c" / "0").symlink_to(tmp_path / "b" / "shards" / "0")
    for name in ("shards/0", "0"):
        with pytest.raises(OSError, match=r"(?i)not a plain"):
            open_inside(tmp_path / "c", name)
    with open_plain(tmp_path / "c" / "0") as file:  # elsewhere links are the owner's business
        assert file.read() == b"x"


def test_an_exchange_between_look_and_open_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO that takes a file's place after it was looked at is opened without waiting, and told."""
    path, real = tmp_path / "f", os.open
    path.write_bytes(b"x")

    def exchange(name: Any, flags: int, *more: Any, **options: Any) -> int:
        if str(name).endswith("f") and not flags & os.O_DIRECTORY:
            put_fifo(path)
        return real(name, flags, *more, **options)

    monkeypatch.setattr(os, "open", exchange)
    with pytest.raises(OSError, match="Not a plain file"):
        open_inside(tmp_path, "f")
    path.unlink()
    path.write_bytes(b"x")
    with pytest.raises(OSError, match="Not a plain file"):
        open_plain(path)


def test_files_without_a_size_are_bounded_too() -> None:
    with pytest.raises(OSError, match="Too large: expected at most 10 bytes"):
        read_plain(Path("/proc/self/maps"), 10)


def test_a_manifest_may_grow_with_its_shards(directory: RoundDirectory) -> None:
    path = directory.path / "bundle" / MANIFEST
    path.write_bytes(path.read_bytes() + b" " * MANIFEST_BYTES)
    with pytest.raises(InputError, match=r"Too large: expected at most 2,097,152 bytes, found 2,"):
        read_manifest(path.parent)
    (path.parent / "shards").mkdir()
    for t in range(40):
        (path.parent / "shards" / str(t)).touch()
    read_manifest(path.parent)


# Archives and tensors that claim, or unpack to, gigabytes


def npy(header: str, content: bytes = b"", version: int = 1) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes((version, 0)) + size + header.encode() + content


def deflated(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def header(descr: str, shape: str) -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"


BOMB = 2**26
SALT = npy(header("|u1", "(32,)"), bytes(32))


def bomb_of_values(path: Path) -> None:
    deflated(path, {"q": npy(header("|i1", f"({BOMB},)"), bytes(BOMB)), "salt": SALT})


def bomb_behind_values(path: Path) -> None:
    deflated(path, {"q": npy(header("|i1", f"({D},)"), bytes(BOMB)), "salt": SALT})


def bomb_of_header(path: Path) -> None:
    deflated(path, {"q": b"\x93NUMPY\x02\x00" + struct.pack("<I", BOMB) + b" " * BOMB, "salt": SALT})


def bomb_of_shape(path: Path) -> None:
    deflated(path, {"q": npy(header("|i1", "(-1,)"), bytes(BOMB)), "salt": SALT})


@pytest.mark.parametrize("bomb", [bomb_of_values, bomb_behind_values, bomb_of_header, bomb_of_shape])
@pytest.mark.parametrize("name", ["openings/client-01.npz", "updates/client-01.npz", "aggregate.npz"])
def test_what_unpacks_to_gigabytes_is_refused_by_its_header(
    directory: RoundDirectory, name: str, bomb: Callable[[Path], None]
) -> None:
    path = directory.path / name
    bomb(path)
    if name == "aggregate.npz":  # the layout is the array whose size is not known
        with zipfile.ZipFile(path) as archive:
            strange = archive.read("q.npy") if bomb is not bomb_of_values else npy(header("|u1", "(99,)"), bytes(BOMB))
        arrays = {"sum": (f"({D},)", "<i8", 8 * D), "salt": ("(32,)", "|u1", 32), "clip": ("()", "<f8", 8)}
        arrays |= {"count": ("()", "<i8", 8), "bits": ("()", "<i8", 8)}
        whole = {of: npy(header(descr, shape), bytes(size)) for of, (shape, descr, size) in arrays.items()}
        deflated(path, {**whole, "layout": strange.replace(b"'|i1'", b"'|u1'")})
        del strange
    assert path.stat().st_size < 4 * 2**20
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as raised:
            read_every(directory, name)
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    finally:
        tracemalloc.stop()
    assert name in raised.value.message


def test_an_update_of_another_size_is_refused_by_its_header(directory: RoundDirectory) -> None:
    """With a round by d; without one by what the other clients have."""
    path = directory.updates / "client-03.npz"
    deflated(path, {"update": npy(header("<f4", f"({BOMB // 4},)"), bytes(BOMB))})
    roster = load_round(directory.round_file).roster
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=rf"client-03\.npz: client 'client-03': expected {D} values \(d\)"):
            directory.load_updates(roster, D)
        with pytest.raises(InputError, match=r"client 'client-03': tensor 'update': expected float32 of shape \(30,\)"):
            directory.load_updates(roster)
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    finally:
        tracemalloc.stop()


def test_buffers_may_not_be_the_larger_part(tmp_path: Path) -> None:
    np.savez(tmp_path / "u.npz", w=np.ones(3), b=np.zeros(2**18, np.int8))
    with pytest.raises(InputError, match="no more buffers than floats, found 262,144 values of them and 3 floats"):
        load_update(tmp_path / "u.npz", "alice")


def test_a_safetensors_is_what_its_header_says(tmp_path: Path) -> None:
    def write(text: str, content: bytes = bytes(12)) -> None:
        (tmp_path / "u.safetensors").write_bytes(len(text).to_bytes(8, "little") + text.encode() + content)

    entry = '{"dtype":"F32","shape":[3],"data_offsets":[0,12]}'
    write(f'{{"w":{entry}}}')
    assert load_update(tmp_path / "u.safetensors", "alice").vector.size == 3
    for text, said in (
        (f'{{"w":{entry},"w":{entry}}}', "key 'w' stands twice"),
        ('{"w":{"dtype":"F32","shape":[999],"data_offsets":[0,3996]}}', "its header says 3,996 bytes, and 12 follow"),
        ('{"w":{"dtype":"F32","shape":[true,3],"data_offsets":[0,12]}}', "has the shape"),
        ('{"w":{"dtype":"F32","shape":[-3],"data_offsets":[0,12]}}', "has the shape"),
        ("[]", "not a readable"),
    ):
        write(text)
        with pytest.raises(InputError, match=said):
            load_update(tmp_path / "u.safetensors", "alice")
    (tmp_path / "u.safetensors").write_bytes((10**8).to_bytes(8, "little"))
    with pytest.raises(InputError, match="a header of 100,000,000 bytes in a file of 8"):
        load_update(tmp_path / "u.safetensors", "alice")


def test_only_stored_and_deflated_members(directory: RoundDirectory) -> None:
    """LZMA would allocate what its header asks for."""
    q = npy(header("|i1", "(30,)"), bytes(30))
    deflated(directory.openings / "client-01.npz", {"q": q, "salt": SALT}, zipfile.ZIP_LZMA)
    with pytest.raises(InputError, match="stored or deflated"):
        load(directory.path, hash_many)


def test_a_member_of_two_names(tmp_path: Path) -> None:
    """The model that Python 3.11 reads would be another one under 3.12."""
    np.savez(tmp_path / "u.npz", w=np.ones(3, np.float32))
    assert load_update(tmp_path / "u.npz", "alice").layout[0].name == "w"
    info = zipfile.ZipInfo("w.npy")
    info.extra = struct.pack("<HHBI", 0x7075, 10, 1, zlib.crc32(b"w.npy")) + b"v.npy"
    with zipfile.ZipFile(tmp_path / "u.npz") as source, zipfile.ZipFile(tmp_path / "v.npz", "w") as target:
        target.writestr(info, source.read("w.npy"))
    with pytest.raises(InputError, match="has two names"):
        load_update(tmp_path / "v.npz", "alice")


@pytest.mark.parametrize(
    "shape",
    ["[30, -1, -1]", "[0, 9223372036854775808]", f"[{', '.join(['1'] * 33)}]", f"[{'1' * 90}]", "[4294967296, 0]"],
)
def test_a_layout_numpy_could_not_hold_is_refused(made: RoundDirectory, tmp_path: Path, shape: str) -> None:
    layout = f'[["a", [30], "float32"], ["b", {shape}, "float32"]]'.encode()
    with np.load(made.path / "aggregate.npz") as file:
        arrays = {name: file[name] for name in file}
    np.savez(tmp_path / "a.npz", **{**arrays, "layout": np.frombuffer(layout, np.uint8)})
    with pytest.raises(InputError, match="layout: "):
        load_aggregate(tmp_path / "a.npz", load_round(made.round_file).params.d)


# Texts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' stands twice in one object"),
        (b'{"a": NaN}', "NaN is not a finite number"),
        (b'{"a": -Infinity}', "-Infinity is not a finite number"),
        (b'{"a": 1e999}', "1e999 is not a finite number"),
        (b"[" + b"1" * 101 + b"]", "an integer of more than 100 digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 65, "nested too deeply"),
        (b'"' + b'\\"' * 500_000, "not JSON"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        ("[1]".encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf[1]", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_json_means_one_thing(text: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_json(text)


def test_the_bound_of_nesting_is_not_pythons() -> None:
    """Libraries raise that bound for the whole process (py_ecc to 100,000), and the parser would overrun its stack."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        for text in (b"[" * 1_000_000, b'{"a":' * 200_000):
            with pytest.raises(ValueError, match="nested too deeply"):
                parse_json(text)
    finally:
        sys.setrecursionlimit(limit)


def test_brackets_in_strings_nest_nothing() -> None:
    assert parse_json(b'["' + b"[" * 1000 + b'", "\\"' + b"{" * 1000 + b'"]') == ["[" * 1000, '"' + "{" * 1000]
    assert parse_json(b"[" * 64 + b"]" * 64)


def test_a_key_twice_is_refused_wherever_json_comes_from_outside(directory: RoundDirectory) -> None:
    for name, old in ((FILES[1], '"client":'), ("truth.json", '"seed":'), (f"bundle/{MANIFEST}", '"aggregate":')):
        path = directory.path / name
        text = path.read_text()
        line = next(line for line in text.splitlines() if old in line)
        path.write_text(text.replace(line, f"{line.rstrip(',')},\n{line}"))
        with pytest.raises((InputError, ValueError), match=rf"key '{old[1:-2]}' stands twice"):
            read_every(directory, name)


def test_truth_has_types(directory: RoundDirectory) -> None:
    for byzantine in (5, "abc", [1], None):
        directory.truth.write_text(json.dumps({"byzantine": byzantine, "attack": "a", "strength": None, "seed": 1}))
        with pytest.raises(InputError, match=r"truth\.json: byzantine"):
            read_truth(directory)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a." * 50_000 + "a = 1", "more than 8 dots"),
        ('"a".' * 50_000 + "a = 1", "more than 8 dots"),
        ("a = " + "[" * 50_000, "nested too deeply"),
        ('a = """' + '\\"' * 250_000, "cannot be read as TOML"),
        ('a = ["""x"""", ' + "[" * 50_000, "nested too deeply"),
        ("a = {b = '''x''''', " + "a." * 50_000 + "a = 1}", "more than 8 dots"),
        ("a = '''" + "'a" * 250_000, "cannot be read as TOML"),
        ("#" * 2**20, "Too large"),
    ],
)
def test_toml_that_takes_for_ever_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "round.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        load_round(tmp_path / "round.toml")


def test_dots_in_strings_and_comments_are_no_keys(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('a = "1.2.3.4.5.6.7.8.9.10" # 1.2.3.4.5.6.7.8.9.10\nb = """\n........."\\""""\nc = \'.........\'\n')
    assert set(read_toml(path)) == {"a", "b", "c"}


# Client ids


def round_of(*clients: str) -> Round:
    return Round(Params.of(n=len(clients), d=3, f=0), 1.0, clients, bytes(32))


@pytest.mark.parametrize(
    "client",
    [
        "", " ", "a ", " a", ".a", "a/b", "a\\b", "a\nb", "a\tb", "\x1b[31m", "a\x00", "\x7f", "\x85", "\u202eecila",
        "a\u200b",
        "a\u200dz", "a\u2066b", "a\xad", "\ufeff", "\u2028", "a\xa0b", "\ud800", "\ue000", "e\u0301", "\u212b",
        "a\ufe0f",
        "a\u034f", "\u3164", "\u2800", "a\U000e0101", "\U000e0041", "x" * (ID_BYTES_MAX + 1),
    ],
)  # fmt: skip
def test_ids_that_cannot_be_read_for_what_they_are(client: str) -> None:
    with pytest.raises(InputError, match="roster: ") as raised:
        round_of("alice", "bob", client)
    assert raised.value.message.isascii()
    assert raised.value.message.isprintable()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("alice", "ALICE"), ("straße", "STRASSE"), ("ﬁ", "fi"), ("Å", "å"), ("ｂob", "bob"), ("x²", "x2"), ("ς", "Σ"),
        ("0x" + "ab" * 20, "0x" + "AB" * 20), ("ẞ", "ss"), ("K", "\u212a".lower()), ("ⅳ", "IV"), ("ǆ", "Ǆ"),
    ],
)  # fmt: skip
def test_ids_that_differ_in_case_or_typography_alone(one: str, other: str) -> None:
    with pytest.raises(InputError, match="whatever the case and form"):
        round_of(unicodedata.normalize("NFC", one), "client", unicodedata.normalize("NFC", other))


def test_folding_is_at_least_as_coarse_as_unicodes() -> None:
    for code in range(sys.maxunicode + 1):
        c = chr(code)
        if c.isprintable():
            assert folded(c) == folded(c.casefold()) == folded(unicodedata.normalize("NFKC", c))


HOSTILE = (
    "a, b",
    "'; b: 'c",
    '"q',
    "[bold]x",
    "$x_{$",
    ":heart:",
    "<b>x",
    "; rm -rf ~",
    "&amp;",
    "{0}",
    "%s",
    "zoë",
)


def test_ids_stay_ids_in_a_sentence() -> None:
    round = Round(Params.of(n=len(HOSTILE), d=3, m=3), 1.0, HOSTILE, bytes(32))
    text = sentence(round, Verdict(True, (0, 1, 2), (3, 4, 5)), bytes(32))
    assert f"flagged: {', '.join(map(repr, HOSTILE[:3]))}. Multi-Krum" in text
    assert f"selects: {', '.join(map(repr, HOSTILE[3:6]))}. For" in text


# All of it: whatever is done to a file, it is read, or refused by a deliberate error


FUZZ = load_script("fuzz")


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), rng=st.randoms(use_true_random=False))
def test_damaged_files_are_read_or_refused(made: RoundDirectory, tmp_path: Path, name: str, rng: Any) -> None:
    target = tmp_path / "damaged"
    shutil.rmtree(target, ignore_errors=True)
    home = RoundDirectory(Path(shutil.copytree(made.path, target)))
    path = home.path / name
    damages = [damage for damage in FUZZ.damages_of(path.name) if damage is not FUZZ.hostile_archive]  # slow to make
    path.write_bytes(rng.choice(damages)(rng, path.read_bytes()))
    try:
        read_every(home, name)
        if "bundle" in name:
            of_path(path.parent)
    except ZkkrumError as error:
        said = error.message
    except ValueError as error:
        said = f"{home.path}: {error}"
        if MANIFEST not in name:
            raise
    else:
        return
    assert str(home.path) in said


@settings(max_examples=60)
@given(st.binary(max_size=300))
@example(b"\x93NUMPY\x02\x00\xff\xff\xff\xff")
@example(b"PK\x05\x06" + bytes(18))
def test_no_bytes_are_an_opening(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "x.npz"
    path.write_bytes(data)
    with pytest.raises(InputError):
        load_opening(path, Params.of(n=N, d=D, b=8))


MEMORY_CHILD = """
import sys
from pathlib import Path
from zkkrum.errors import InputError
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.roundfile import load_round
home = RoundDirectory(Path(sys.argv[1]))
round = load_round(home.round_file)
import resource
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), used + int(sys.argv[2])))
for read in (lambda: home.load_openings(round), lambda: home.load_updates(round.roster)):
    try:
        read()
        sys.exit("read it")
    except InputError as error:
        if "MemoryError" in str(error):
            sys.exit("tried to")
        print(error.message)
"""


def test_memory_is_bounded_by_the_system_too(directory: RoundDirectory) -> None:
    """A child that may not allocate what the files unpack to, with the files of the first report."""
    bomb_of_values(directory.openings / "client-01.npz")
    deflated(directory.updates / "client-01.npz", {"update": npy(header("<f4", f"({BOMB // 4},)"), bytes(BOMB))})
    limit = str(CHILD_MEGABYTES * 2**20)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_CHILD, directory.path, limit], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("client 'client-01'") == 2


def test_a_zip_whose_directory_is_a_hole(directory: RoundDirectory) -> None:
    """A sparse file that ends as an archive does, and says that its list of members has 4 GB."""
    path = directory.updates / "client-01.npz"
    with path.open("wb") as file:
        file.truncate(2**32)
        file.seek(2**32 - 22)
        file.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, 2**32 - 100, 0, 0))
    with pytest.raises(InputError, match="a part of it claims to be larger than 16,777,216 bytes"):
        load_update(path, "client-01")
