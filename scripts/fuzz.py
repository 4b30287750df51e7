"""Files of strangers, damaged in many ways, against the command line: no traceback, no hang, no memory beyond a bound.

    python scripts/fuzz.py                       300 cases from a fresh seed, which is printed
    python scripts/fuzz.py --seed 7 --count 5000 the same 5000 cases on every machine
    python scripts/fuzz.py --seed 7 --only 1234  one of them again, with all it says; --keep leaves its files

A case takes a round, its bundle, aggregate, commitments, openings and updates, and a run, damages one of their files or
puts something else in its place, and runs one command on it in a child process with limits on memory and time. It fails
if the command ends with a code that is not in the table (`zkkrum.errors`), with "a bug", or not at all; if it uses more
memory; or if what it says has control characters in it. The damages are also those of the tests.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # children are forks: no threads


from zkkrum.cli import main as zkkrum
from zkkrum.errors import EXIT_BUG, EXIT_CODES, EXIT_INTERRUPTED, ResourceError
from zkkrum.learning.federation import Play, train
from zkkrum.learning.simulate import simulated_updates, truth_of, write_round
from zkkrum.proof.material import load
from zkkrum.proof.prove import prove
from zkkrum.protocol.poseidon2 import hash_many
from zkkrum.rounds.parties import Terms
from zkkrum.toolchain import Toolchain

SECONDS = 60
"""After so long a command hangs; none takes a tenth of it."""
MEGABYTES = 700
"""A command may allocate so much more than Python and its libraries."""

ROUNDS = ("round", "round", "sharded", "zipped", "run")
"""Folders of a world to choose from."""

# Damages: a source of randomness and a file's bytes to other bytes

Damage = Callable[[random.Random, bytes], bytes]

TOKENS = [
    b"\x00", b"\xff" * 8, b"\x1b[2J\x1b]0;owned\x07", "\u202eevil".encode(), b"$x_{$", b"[bold red]", b"</script>",
    b"-1", b"0", b"1e999", b"NaN", b"1" * 5000, b"9" * 19, b"null", b"true", b"{}", b"[]", b'"', b"'", b"\\", b"\n",
    b"[" * 3000, b'{"a":' * 3000, b"a." * 3000, b"../../etc/passwd", b"/dev/zero", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b"PK\x05\x06", b"PK\x01\x02", b"\x93NUMPY\x02\x00\xff\xff\xff\xff", b"{'descr': '|O'}", b"2147483648", b"\\ud800",
]  # fmt: skip

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 2**64, 10**99, 10**101, 0.1, 1e308, float("nan"), float("inf"), "",
    " ", "a", "0x", "0x" + "0" * 64, "0x" + "f" * 64, "\x1b[31mred\x1b[0m", "\u202eevil", "e\u0301", "ﬁ", "$x_{$",
    "a, b", "'; 'b", "[bold]", ":heart:", "../x", ".", "x" * 300, "\ud800", [], {}, [[]], ["alice"] * 300, {"a": 1},
    "1/0", "5e0", "1" * 5000, [None], "zkkrum-1", "zkkrum-bundle-1", "zkkrum-bundle-3",
    "sharded", "round", "all-pairs", "brackets",
]  # fmt: skip


def flip(rng: random.Random, data: bytes) -> bytes:
    """Change some bits."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 3, 30))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> bytes:
    """Leave something out at the end, the beginning or in between."""
    a, b = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
    return rng.choice((data[:a], data[a:], data[:a] + data[b:]))


def insert(rng: random.Random, data: bytes) -> bytes:
    """Put a token somewhere, over what stands there or before it."""
    token, at = rng.choice(TOKENS), rng.randint(0, len(data))
    return data[:at] + token + data[at + rng.choice((0, len(token))) :]


def repeat(rng: random.Random, data: bytes) -> bytes:
    """Repeat a part."""
    a, b = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
    return data[:b] + data[a:b] * rng.choice((1, 2, 50)) + data[b:]


def replace_word(rng: random.Random, data: bytes) -> bytes:
    """Replace a value of a text by another, as in JSON and TOML."""
    lines = data.split(b"\n")
    k = rng.randrange(len(lines))
    for mark in (b" = ", b": "):
        if mark in lines[k]:
            head, _, tail = lines[k].partition(mark)
            value = rng.choice(VALUES)
            text = json.dumps(value) if rng.random() < 0.7 else repr(value)
            comma = b"," if tail.rstrip().endswith(b",") else b""
            lines[k] = head + mark + text.encode(errors="surrogatepass") + comma
    if rng.random() < 0.2:
        lines.insert(rng.randrange(len(lines)), lines[k])
    return b"\n".join(lines)


def rewrite_json(rng: random.Random, data: bytes) -> bytes:
    """Change a value of a JSON document, a key, or make a key stand twice."""
    try:
        document = json.loads(data)
    except ValueError:
        return flip(rng, data)
    for _ in range(rng.choice((1, 1, 2))):
        document = _changed(rng, document)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    return text.encode(errors="surrogatepass")


def _changed(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return rng.choice(
            (
                lambda: {**value, key: _changed(rng, value[key])},
                lambda: {**value, key: _changed(rng, value[key])},
                lambda: {k: v for k, v in value.items() if k != key},
                lambda: {**value, str(rng.choice(VALUES)): value[key]},
                lambda: {**value, 1: 0, "1": 0},  # json.dumps writes it twice
            )
        )()
    if isinstance(value, list) and value and rng.random() < 0.9:
        k = rng.randrange(len(value))
        return rng.choice(
            (
                lambda: [*value[:k], _changed(rng, value[k]), *value[k + 1 :]],
                lambda: [*value[:k], *value[k + 1 :]],
                lambda: [*value, value[k]],
                lambda: value[::-1],
            )
        )()
    return rng.choice(VALUES)


def _npy(version: tuple[int, int], header: bytes, content: bytes = b"") -> bytes:
    size = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + size + header + content


def _header(descr: str, shape: str, fortran: bool = False) -> bytes:
    return f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()


def hostile_array(rng: random.Random, data: bytes) -> bytes:
    """Make an ``.npy`` that lies."""
    descr = rng.choice(("<f4", "<f8", ">f4", "<i8", "|u1", "|O", "<U3", "<U0", "|V0", "<m8[s]", "<c16", "<f2"))
    shape = rng.choice(
        ("()", "(1,)", "(60,)", "(650,)", "(-1,)", "(-60,)", "(10**15,)", f"({10**15},)", f"({2**31},)", "(True,)",
         "(0,)", f"(0, {2**62})", "(" + "1," * 70 + ")", "(" + "(" * 900, f"({2**63}, {2**63})", "(3, 'a')")
    )  # fmt: skip
    content = bytes(rng.choice((0, 1, 60, 240, 650 * 4, 650 * 8, 5000)))
    made = _npy(
        rng.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9))), _header(descr, shape, rng.random() < 0.2), content
    )
    if rng.random() < 0.1:
        made = b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(1000)
    return made


def hostile_archive(rng: random.Random, data: bytes) -> bytes:
    """Make an ``.npz`` that lies, with the members of another or with its own."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError):
        members = {"update.npy": hostile_array(rng, b"")}
    names = list(members)
    chosen = rng.choice(names) if names else "q.npy"
    kind = rng.randrange(8)
    if kind == 0:  # it unpacks to a gigabyte
        members[chosen] = _npy((1, 0), _header("<i8", f"({2**27},)"), bytes(2**30 // rng.choice((1, 4, 64))))
    elif kind == 1:  # a header that unpacks to a gigabyte
        members[chosen] = b"\x93NUMPY\x02\x00" + (2**30).to_bytes(4, "little") + b" " * (2**30 // rng.choice((1, 8)))
    elif kind == 2:
        members[chosen] = _npy((1, 0), _header("|u1", "(-1,)"), bytes(2**28))
    elif kind == 3:
        members[rng.choice(("x.npy", "../../x.npy", "a", "\x1b[2J.npy", "u.npy/"))] = hostile_array(rng, b"")
    elif kind == 4 and chosen in members:
        members[chosen] = rng.choice((flip, cut, insert))(rng, members[chosen])
    else:
        members[chosen] = hostile_array(rng, b"")
    out = io.BytesIO()
    method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA))
    if any(len(content) > 2**22 for content in members.values()):
        method = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(out, "w", method, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    made = out.getvalue()
    return flip(rng, made) if rng.random() < 0.2 else made


def hostile_safetensors(rng: random.Random, data: bytes) -> bytes:
    """Make a ``.safetensors`` whose header lies."""
    size = int.from_bytes(data[:8], "little")
    header, content = data[8 : 8 + size], data[8 + size :]
    kind = rng.randrange(5)
    if kind == 0:
        return rng.choice((2**63, 2**40, 10**8, 0)).to_bytes(8, "little") + header + content
    if kind == 1:
        entry = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
        header = json.dumps({"update": entry}).encode()
    elif kind == 2:
        header = header.replace(b'"shape"', b'"shape":[1],"shape"', 1)
    else:
        header = rewrite_json(rng, header)
    return len(header).to_bytes(8, "little") + header + content


BYTES: tuple[Damage, ...] = (flip, cut, insert, repeat)


def damages_of(name: str) -> Sequence[Damage]:
    """Return what can be done to a file, by its name."""
    if name.endswith(".json"):
        return (rewrite_json, rewrite_json, rewrite_json, replace_word, *BYTES)
    if name.endswith(".toml"):
        return (replace_word, replace_word, replace_word, *BYTES)
    if name.endswith(".npz"):
        return (hostile_archive, hostile_archive, *BYTES)
    if name.endswith(".npy"):
        return (hostile_array, hostile_array, *BYTES)
    if name.endswith(".safetensors"):
        return (hostile_safetensors, hostile_safetensors, *BYTES)
    return BYTES


# Something else in a file's place


def put_in_place(rng: random.Random, path: Path) -> str:
    """Put a link, a device's name, a FIFO, a folder, a huge hole or nothing where a file was; say what."""
    kind = rng.choice(("link", "device", "fifo", "folder", "hole", "loop", "nothing", "empty", "socket name"))
    content = path.read_bytes() if path.is_file() else b""
    path.unlink(missing_ok=True)
    if kind == "link":
        (path.parent.parent / "elsewhere").write_bytes(content)
        path.symlink_to(path.parent.parent / "elsewhere")
    elif kind == "device":
        path.symlink_to(rng.choice(("/dev/zero", "/dev/stdin", "/dev/null", "/proc/self/mem", "/etc/passwd")))
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "hole":
        with path.open("wb") as file:
            file.write(content[: rng.choice((0, len(content)))])
            file.truncate(rng.choice((2**26, 2**33, 2**36)))
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "empty":
        path.touch()
    return kind


# What is damaged, and the commands that read it


@dataclass(frozen=True)
class World:
    """Genuine files to damage: one of two rounds with updates and bundle, and a run."""

    path: Path

    @classmethod
    def make(cls, path: Path) -> World:
        """Prove the rounds and play the run."""
        with Toolchain.find(notify=print) as tools:
            for name, chunk, suffix in (
                ("round", None, ".npy"),
                ("sharded", 21, ".safetensors"),
                ("zipped", None, ".npz"),
            ):
                tensors, attackers = simulated_updates(5, 60, 1, "gaussian", None, 0.0, seed=1)
                truth = truth_of(5, attackers, "gaussian", None, seed=1)
                write_round(path / name, tensors, truth, hash_many, Terms(overrides={"chunk": chunk}), suffix)
                prove(load(path / name, tools.bb.hash_many), path / name / "bundle", tools)
            train(path / "run", Play(2, 5, 1, "sign-flip", seed=1), tools)
        return cls(path)


def command_for(rng: random.Random, at: Path, name: str) -> tuple[str, list[str]]:
    """Choose which file is damaged, and a command that reads it."""
    if name == "run":
        files = sorted(p for p in (at / "run").rglob("*") if p.is_file())
        commands = [["audit", str(at / "run")], ["report", str(at / "run"), "-o", str(at / "page.html")]]
        return str(rng.choice(files)), rng.choice(commands)
    home = at / name
    bundle, published = (
        home / "bundle",
        ["--commitments", str(home / "commitments"), "--round", str(home / "round.toml")],
    )
    everything = sorted(p for p in home.rglob("*") if p.is_file())
    groups = [
        [p for p in everything if p.parent == bundle or p.parent.name == "shards"],
        [bundle / "manifest.json"],
        *([p for p in everything if p.parent.name == part] for part in ("commitments", "openings", "updates")),
        [home / "round.toml"],
        [home / "truth.json"],
        [home / "aggregate.npz"],
    ]
    file = rng.choice(rng.choice(groups))
    aggregate = ["--aggregate", str(home / "aggregate.npz")]
    if bundle in file.parents:
        commands = [
            ["verify", str(bundle)],
            ["verify", str(bundle), *published, "--strict"],
            ["inspect", str(bundle)],
            ["inspect", str(bundle), "--json"],
            ["report", str(bundle), "--no-verify", "-o", str(at / "page.html")],
            ["report", str(home), "-o", str(at / "page.html")],
        ]
    elif file.parent.name == "commitments":
        commands = [["verify", str(bundle), *published], ["prove", str(home), "--restart"]]
    elif file.parent.name == "openings":
        commands = [
            ["report", str(home), "-o", str(at / "page.html")],
            ["calibrate", str(home), "-o", str(at / "c.toml")],
        ]
        commands += [["prove", str(home), "--restart"]]
    elif file.parent.name == "updates":
        commands = [
            ["report", str(home), "-o", str(at / "page.html")],
            ["commit", str(file), "--round", str(home / "round.toml"), "-o", str(at / "out")],
            ["prove", str(home), "--restart"],
        ]
        if rng.random() < 0.5:  # without openings the server commits itself
            shutil.rmtree(home / "openings")
            shutil.rmtree(home / "commitments")
            if rng.random() < 0.5:
                (home / "round.toml").unlink()
    elif file.name == "round.toml":
        commands = [
            ["verify", str(bundle), *published],
            ["estimate", str(home)],
            ["report", str(home), "-o", str(at / "page.html")],
            ["calibrate", str(home), "-o", str(at / "c.toml"), "--round", str(home / "round.toml")],
            [
                "commit",
                str(sorted((home / "updates").iterdir())[0]),
                "--round",
                str(home / "round.toml"),
                "-o",
                str(at),
            ],
            ["prove", str(home), "--restart"],
        ]
    elif file.name == "truth.json":
        commands = [["report", str(home), "-o", str(at / "page.html")]]
    else:
        commands = [
            ["verify", str(bundle), *published, *aggregate],
            ["aggregate", str(bundle), *aggregate, "-o", str(at / "mean.npz")],
        ]
    return str(file), rng.choice(commands)


def fix_hash(path: Path) -> None:
    """Let a manifest fit a damaged file of its bundle, where that is possible."""
    bundle = path.parent.parent if path.parent.name == "shards" else path.parent
    manifest = bundle / "manifest.json"
    if path == manifest or not manifest.is_file() or not path.is_file():
        return
    found = json.loads(manifest.read_text())
    name = path.relative_to(bundle).as_posix()
    if name in found["files"]:
        found["files"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(found))


@dataclass(frozen=True)
class Outcome:
    """What came of a case; ``wrong`` is empty where nothing is."""

    title: str
    code: int | None
    said: str
    megabytes: int
    wrong: str


def run_case(world: World, seed: int, number: int, scratch: Path) -> Outcome:
    """Damage a copy and run a command on it."""
    rng = random.Random(f"{seed} {number}")
    name = rng.choice(ROUNDS)
    at = scratch / "case"
    shutil.rmtree(at, ignore_errors=True)
    shutil.copytree(world.path / name, at / name)
    chosen, command = command_for(rng, at, name)
    path = Path(chosen)
    if rng.random() < 0.2:
        what = put_in_place(rng, path)
    else:
        damage = rng.choice(damages_of(path.name))
        what = damage.__name__
        path.write_bytes(damage(rng, path.read_bytes()))
        if rng.random() < 0.7:
            fix_hash(path)
    title = f"{number}: {what} {path.relative_to(at)}: zkkrum {' '.join(command).replace(f'{at}/', '')}"
    code, said, megabytes = in_child(command, scratch / "said", at)
    return Outcome(title, code, said, megabytes, wrong(command[0], code, said))


def wrong(command: str, code: int | None, said: str) -> str:
    """Say what is wrong with how a command ended, or nothing."""
    if code is None:
        return f"it hangs: no end within {SECONDS} seconds"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    if code not in EXIT_CODES or code in (EXIT_BUG, EXIT_INTERRUPTED):
        return f"exit code {code}"
    if code == ResourceError.exit_code and command != "prove":  # which, where a damage is harmless, proves
        return "it wants more memory than it may have"
    if "Traceback" in said:
        return "a traceback"
    if strange := [c for c in said if not (c.isprintable() or c == "\n")]:
        return f"it says {strange[0]!a}"
    return ""


def in_child(command: Sequence[str], said: Path, at: Path) -> tuple[int | None, str, int]:
    """Run the command line in a forked child with limits; return its code (None where it hangs), words and memory."""
    with said.open("wb") as file:
        with warnings.catch_warnings():  # the parent may have threads (of a test runner); the child needs none of them
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            _be_the_child(command, file.fileno(), at)
    end = time.monotonic() + SECONDS
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.wait4(child, 0)
            return None, said.read_text(errors="replace"), 0
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(status), said.read_text(errors="backslashreplace"), usage.ru_maxrss // 1024


def _be_the_child(command: Sequence[str], out: int, at: Path) -> None:
    code = EXIT_BUG
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (out, 1), (out, 2)):
            os.dup2(source, target)
        os.chdir(at)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        limit = used + MEGABYTES * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        zkkrum(list(command), standalone_mode=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else EXIT_BUG
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", type=int, help="run this case alone, and show what it says")
    parser.add_argument("--all", action="store_true", help="show every case, with the first line of what it says")
    parser.add_argument("--keep", type=Path, help="copy the files of a case that fails (or of --only) here")
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}", flush=True)
    failed, codes, most = 0, dict.fromkeys([*EXIT_CODES, None], 0), 0
    with tempfile.TemporaryDirectory(prefix="zkkrum-fuzz-") as folder:
        world = World.make(Path(folder) / "world")
        started = time.monotonic()
        numbers = range(chosen.count) if chosen.only is None else [chosen.only]
        for number in numbers:
            outcome = run_case(world, chosen.seed, number, Path(folder))
            codes[outcome.code] = codes.get(outcome.code, 0) + 1
            most = max(most, outcome.megabytes)
            if chosen.all:
                lines = [line for line in outcome.said.split("\n") if line.strip()]
                print(f"{outcome.title}\n  {outcome.code} in {outcome.megabytes} MB: {''.join(lines[:1])}", flush=True)
            if outcome.wrong or chosen.only is not None:
                failed += bool(outcome.wrong)
                print(f"{outcome.title}\n  {outcome.wrong or 'nothing wrong'} (code {outcome.code})", flush=True)
                print("  " + "\n  ".join(outcome.said[-2000:].split("\n")), flush=True)
                if chosen.keep:
                    shutil.copytree(Path(folder) / "case", chosen.keep / str(number), symlinks=True, dirs_exist_ok=True)
        seconds = time.monotonic() - started
    ends = ", ".join(f"{code}: {count}" for code, count in codes.items() if count)
    print(f"{len(numbers)} cases in {seconds:.0f} s, {failed} failed; codes {ends}; at most {most} MB resident")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
