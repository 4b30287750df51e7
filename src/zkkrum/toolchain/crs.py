"""The reference string: where its points are, whether they are the real ones, and how to get more.

Must not know circuits beyond their number of gates. bb believes any file, and without one waits for a network that is
not there; so its folder is looked at before bb starts, and only points whose SHA-256 is pinned here are ever used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped, unused-ignore]

from zkkrum.errors import ReferenceStringError, ResourceError, ZkkrumError
from zkkrum.files import ScratchFolder
from zkkrum.protocol.sizes import gates_for
from zkkrum.toolchain import cache

BASE_FIELD = 0x30644E72E131A029B85045B68181585D97816A916871CA8D3C208C16D87CFD47
"""Order q of the field in which the points of BN254 (y² = x³ + 3) have their coordinates."""
POINT_BYTES = 64
COMPRESSED_POINT_BYTES = 32
FILES = (("bn254_g1.dat", POINT_BYTES), ("bn254_g1_compressed.dat", COMPRESSED_POINT_BYTES))
"""What bb reads, in its order: x and y big-endian; or x with the parity of y in its highest bit."""
GENERATOR = (1).to_bytes(32, "big") + (2).to_bytes(32, "big")
"""The first point; verification needs no other."""

CHUNK_POINTS = 2**17
DOWNLOAD_CHUNK = CHUNK_POINTS * COMPRESSED_POINT_BYTES
"""bb downloads compressed points in chunks of that many bytes, and checks the SHA-256 of each."""
CHUNKS = (
    "fad8203ae1fd103658d4bb33b2b4cf126a28352b5de4684737cff23cc15fb94b",
    "652de4632b48f5856eaa29ab88dc11a0c35fdb738f02fb87b7e9355cc0717436",
    "1bd8f89c08d1c5000e9dc6a4ecabcfa28b2417676f5700b520c9cf448979ef4c",
    "4a3d5598c4995247b20f8948fb57d4180f71a31182f67e0f3304afe1a0e1f904",
    "3ed6cef0be438d9dd5e5c90d0d381e27ded2dbccbe02f9073136da70a6fb84ea",
    "11032b437a436c1af221ce67af4bc0037c5be7f976bc7b39f77c3f140b0858d4",
    "f925cbcbd122b8a8890b04483cb92f9cb970ce7eb5e4008aa89ff106fbadffe3",
    "edf6b390165207e1c85bc7c4a7654465f7799715765e2161b67c68149f9e7e5f",
    "cb2e273a40ecf31c8e43de099030eaf6803a3a1ad6e0ff9b0869a6799993bc56",
    "bf0109ad754ee2095d3219dc1584bbbff48019d2a9ad4f05cb0ba0007519239f",
    "5a994bf842a1169d1260ba941d6d9581111ea1239efea398e763f67655ff1deb",
    "f945df976cb8f000e10fd94e755027c8d91854ca766f47e28ca00ffef35522d9",
    "97a0d5ab4183a9411e3fa2cf4d6e969beb0a3f9f985b92b828a0d4cb506aa814",
    "686b592a23f48c3acd3dffab21a7840045cae7b98b0fb13cec729863570fe859",
    "063bbd8f1f6ed556495300152017cb18c84bc123b936225aa2b810c39f1579ef",
    "a20ed06d4362ecd0809d9e08867e2696a265d65beca7d1a69f3056c4794f0960",
)
"""SHA-256 of each whole chunk in compressed form, as the pinned bb has them built in: 2^21 points."""
PREFIXES = {
    2**8: "ac9de466a64382b9ab5d7d11c12d4b3f9b7f495a43368524ebc11179b3f59bd3",
    2**9: "7a93f50eb406715966c3be4359ec603d2cdc652ab2216518d8c11c4bb912e7ff",
    2**10: "a328567e96f1c15a19c5d00ec99821ebcdf8fdf65d5fd7d91eadf86bf93e9ece",
    2**11: "97759270e0935cbb35c95222070bab985e5b70fcc705aca91ed77fecee1b563a",
    2**12: "0b9c9719e9b8d9ca5dc6f3061ae16736985428ec0a3cab624d071bf6b1398d1c",
    2**13: "fc1514809c78ebb919b89665800d8e0e3ca90d7661308b097c9c84c78e2aff71",
    2**14: "3f94eb48df30f921733081b3c907f69ea077cc251b0eb20304741e44e703bf78",
    2**15: "4473ed69ae1628e71343a85d2967a31f6f2189ad1341a876a111588fb4e92cf5",
    2**15 + 1: "4e89f9e982b1d9da72f53244fab00c632f57747346084fb582e4e84b133b0de9",
}
"""SHA-256 of the first points in compressed form, for files shorter than a chunk. The 32,769 points as bb keeps them,
64 bytes each, have the SHA-256 d769ac6c98f8fab858a7e9967f2b7f181d8ad9fdcdf55438c915696febf0e99c."""
READ_POINTS = 2**14
"""Points looked at in one piece."""

FILLER = """\
// A circuit of about {points} gates, so that bb fetches as many points.
fn main(x: Field) -> pub Field {{
    let mut state = [x, 0, 0, 0];
    for _ in 0..{calls} {{
        state = std::hash::poseidon2_permutation(state);
    }}
    state[0]
}}
"""
GATES_PER_FILLER_CALL = 100  # 73 and some; between half a power of two and the whole

Write = Callable[[Path, Path], object]
"""Makes bb write a key: package folder, reference-string folder."""


def default_folder() -> Path | None:
    """Return the folder bb itself downloads into; None where this user has no home folder."""
    try:
        return Path.home() / ".bb-crs"
    except RuntimeError:
        return None


def candidates() -> list[Path]:
    """Return the folders to look in, in order: ``CRS_PATH``, then bb's own."""
    override = os.environ.get("CRS_PATH")
    named = [Path(os.path.expanduser(override)).absolute()] if override else []  # noqa: PTH111 (never raises)
    default = default_folder()
    return named + ([default] if default else [])


def download_folder() -> Path | None:
    """Return where points are downloaded into: bb's own folder, else ``CRS_PATH``; None if neither can be written."""
    return next((folder for folder in reversed(candidates()) if cache.writable(folder)), None)


def pinned(count: int) -> int:
    """Return how many of a file's first ``count`` points have a pinned SHA-256: no others are used.

    >>> pinned(100), pinned(20_000), pinned(70_000), pinned(2**18 + 5)
    (0, 16384, 32769, 262144)
    """
    if whole := min(count // CHUNK_POINTS, len(CHUNKS)):
        return whole * CHUNK_POINTS
    return max((points for points in PREFIXES if points <= count), default=0)


def points_digest(points: int) -> str:
    """Return what stands for the first ``points`` points, a power of two: the same for everybody.

    It goes beside everything that is made from them.
    """
    if points in PREFIXES:
        return PREFIXES[points]
    chunks = CHUNKS[: -(-points // CHUNK_POINTS)]
    return hashlib.sha256("".join(chunks).encode()).hexdigest()


def _count(path: Path, size: int) -> int:
    try:
        return path.stat().st_size // size
    except OSError:
        return 0


def points_in(folder: Path) -> int:
    """Return how many points a folder holds that can be checked, by the sizes of its files; 0 if there are none."""
    return max(pinned(_count(folder / name, size)) for name, size in FILES)


def best() -> tuple[Path | None, int]:
    """Return the folder with the most points, and their number; the first of equals."""
    found = [(folder, points_in(folder)) for folder in candidates()]
    folder, points = max(found, key=lambda pair: pair[1], default=(Path(), 0))
    return (folder, points) if points else (None, 0)


def points_available() -> int:
    """Return the number of points at hand without a download."""
    return best()[1]


def look_up(points: int, *, remember: bool = True) -> Path | None:
    """Return the first folder with at least ``points`` points, if any, after a check that they are the real ones.

    Parameters
    ----------
    remember
        See `check`.

    Raises
    ------
    ReferenceStringError
        If they are not, naming the file.
    """
    folder = next((folder for folder in candidates() if points_in(folder) >= points), None)
    if folder is None:
        return None
    check(folder, remember=remember)
    return folder if _bb_can_read(folder, points) else _read_only(folder, remember)


def _bb_can_read(folder: Path, points: int) -> bool:
    """Tell whether bb can use a folder: compressed points it first unpacks, into the same folder."""
    name, size = FILES[0]
    return pinned(_count(folder / name, size)) >= points or cache.writable(folder)


def _read_only(folder: Path, remember: bool) -> Path:
    """Return a folder in the cache for bb to unpack the compressed points of a read-only one into."""
    name, _ = FILES[1]
    place = cache.place("points", _name_of(folder), name)
    with cache.explained(place):
        if not (place.is_symlink() and place.readlink() == folder / name):
            place.unlink(missing_ok=True)
            with contextlib.suppress(FileExistsError):  # another process has just done it
                place.symlink_to(folder / name)
    check(place.parent, remember=remember)
    return place.parent


# Whether they are the real ones


def check(folder: Path, *, remember: bool = True) -> None:
    """Check the reference string in a folder: both of its files, as far as points are pinned, once for each file.

    Points that bb has unpacked beyond the pins of their own file are compared with those they were unpacked from.

    Parameters
    ----------
    folder
        Of `candidates`.
    remember
        Whether to believe what the cache notes of earlier checks, and to note this one, bound to path, size, times,
        inode and SHA-256 of the file.

    Raises
    ------
    ReferenceStringError
        Naming the file and the first thing that is wrong with it.
    """
    for name, size in FILES:
        path = folder / name
        if pinned(_count(path, size)):
            _check_once(path, size, remember)
    _check_unpacked(*(folder / name for name, _ in FILES))


def _check_unpacked(plain: Path, packed: Path) -> None:
    """Check the points of the file that bb reads first beyond its own pins, as far as those of the other one reach."""
    count = _count(plain, POINT_BYTES)
    first, last = pinned(count), min(count, pinned(_count(packed, COMPRESSED_POINT_BYTES)))
    if first >= last or (plain, stamp := tuple(_stamp(plain) + _stamp(packed))) in _checked:
        return
    with plain.open("rb") as ours, packed.open("rb") as theirs:
        ours.seek(first * POINT_BYTES)
        theirs.seek(first * COMPRESSED_POINT_BYTES)
        for at, piece in _pieces(ours.read, POINT_BYTES, last - first):
            _check_curve(plain, piece, first + at)
            if compressed(piece) != theirs.read(len(piece) // 2):
                raise _not_real(plain, f"its points from {first + at:,} on are not those of {packed.name}")
    _checked.add((plain, stamp))


_checked: set[tuple[Path, tuple[int, ...]]] = set()
"""What this process has checked."""


def _check_once(path: Path, size: int, remember: bool) -> None:
    stamp = _stamp(path)
    if (path, tuple(stamp)) in _checked:
        return
    if not (remember and _is_noted(path, size, stamp)):
        try:
            _check_points(path, size)
        except OSError as error:
            raise ReferenceStringError(f"{path}: cannot be read: {error.strerror}", _REPLACE) from error
        if _stamp(path) != stamp:
            raise _not_real(path, "it changed while it was read")
        if remember:
            _note(path, size, stamp)
    _checked.add((path, tuple(stamp)))


def _name_of(path: Path) -> str:
    """Return a name of its own for every path."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:32]


def _is_noted(path: Path, size: int, stamp: list[int]) -> bool:
    """Tell whether the cache says that exactly this file has been checked."""
    for known in cache.find("checked", f"{_name_of(path)}.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads(known.read_text())
            if noted["stamp"] == stamp and noted["pins"] == _pins(path, size) and noted["sha256"] == _sha256(path):
                return True
    return False


def _note(path: Path, size: int, stamp: list[int]) -> None:
    noted = {"path": str(path), "stamp": stamp, "pins": _pins(path, size), "sha256": _sha256(path)}
    with contextlib.suppress(ResourceError):  # then it is checked again next time
        cache.write(cache.place("checked", f"{_name_of(path)}.json"), json.dumps(noted).encode())


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


def _pins(path: Path, size: int) -> str:
    return points_digest(pinned(_count(path, size)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


_REPLACE = (
    "a key made from it would be wrong: remove it and let `zkkrum setup --points 32768` download the real one, or name "
    "another folder in CRS_PATH"
)


def _check_points(path: Path, size: int) -> None:
    """Check that the first points are the generator and the pinned ones, and each y the one of its x."""
    points = pinned(_count(path, size))
    whole = points // CHUNK_POINTS
    expected = CHUNKS[:whole] if whole else (PREFIXES[points],)
    with path.open("rb") as file:
        for k, wanted in enumerate(expected):
            digest = hashlib.sha256()
            for at, piece in _pieces(file.read, size, points // len(expected)):
                if k == at == 0 and piece[:size] != (GENERATOR if size == POINT_BYTES else GENERATOR[:32]):
                    raise _not_real(path, "its first point is not the generator (1, 2)")
                if size == POINT_BYTES:
                    _check_curve(path, piece, k * CHUNK_POINTS + at)
                    piece = compressed(piece)
                digest.update(piece)
            if digest.hexdigest() != wanted:
                first, last = k * CHUNK_POINTS, min(points, (k + 1) * CHUNK_POINTS) - 1
                raise _not_real(path, f"the SHA-256 of points {first:,} to {last:,} is not that of the real ones")


def _pieces(read: Callable[[int], bytes], size: int, points: int) -> Iterator[tuple[int, bytes]]:
    for at in range(0, points, READ_POINTS):
        yield at, read(size * min(READ_POINTS, points - at))


def _check_curve(path: Path, data: bytes, first: int) -> None:
    """Check every point: coordinates below the modulus, y² = x³ + 3. So y is one of two, and its parity says which."""
    number = int.from_bytes
    for at in range(0, len(data), POINT_BYTES):
        x, y = number(data[at : at + 32], "big"), number(data[at + 32 : at + 64], "big")
        if x >= BASE_FIELD or y >= BASE_FIELD or (y * y - x * x * x - 3) % BASE_FIELD:
            raise _not_real(path, f"its point {first + at // POINT_BYTES:,} is not on the curve")


def compressed(data: bytes) -> bytes:
    """Return points of 64 bytes in the form of 32: x, with the parity of y in its highest bit."""
    points = np.frombuffer(data, dtype=np.uint8).reshape(-1, POINT_BYTES)
    x = points[:, :COMPRESSED_POINT_BYTES].copy()
    x[:, 0] |= (points[:, -1] & 1) << 7
    return x.tobytes()


def _not_real(path: Path, why: str) -> ReferenceStringError:
    return ReferenceStringError(f"{path}: not the reference string: {why}", _REPLACE)


# What to say and do where it is missing


def missing(points: int, why: str = "") -> ReferenceStringError:
    """Return the error that says what was found where, what is needed, and how to get it."""
    found = []
    for folder in candidates():
        count, there = points_in(folder), max(_count(folder / name, size) for name, size in FILES)
        serves = f"{count:,} points, enough for circuits of {gates_for(count):,} gates" if count else "none"
        if there > count:
            serves += f" ({there:,} are there, of which no more can be checked: the SHA-256 of whole chunks is known)"
        found.append(f"{folder}: {serves}")
    megabytes = -(-points * COMPRESSED_POINT_BYTES // DOWNLOAD_CHUNK) * DOWNLOAD_CHUNK >> 20
    goal = download_folder()
    if points > CHUNK_POINTS * len(CHUNKS):
        hint = f"use smaller circuits: points are known up to {CHUNK_POINTS * len(CHUNKS):,}"
    elif goal:
        hint = (
            f"with a network, `zkkrum setup --points {points}` downloads {megabytes} MiB into {goal}; without one, "
            "copy a bn254_g1.dat there or name its folder in CRS_PATH"
        )
    else:
        hint = "name in CRS_PATH a folder that holds a bn254_g1.dat, or that you can write to"
    return ReferenceStringError(
        f"the reference string needs {points:,} points ({points * POINT_BYTES:,} bytes of bn254_g1.dat); "
        f"found {'; '.join(found) or 'no folder to look in'}{f' ({why})' if why else ''}",
        hint,
    )


def network_looks_up() -> bool:
    """Tell whether an interface other than the loopback is up; says nothing about what it reaches."""
    try:
        stats, addresses = psutil.net_if_stats(), psutil.net_if_addrs()
    except OSError:
        return True
    families = {"AF_INET", "AF_INET6"}
    return any(
        stats[name].isup and not name.startswith("lo") and any(a.family.name in families for a in addresses[name])
        for name in addresses
        if name in stats
    )


def download(points: int, write: Write) -> Path:
    """Let bb download at least ``points`` points into its own folder.

    Parameters
    ----------
    points
        How many are needed; a power of two.
    write
        Compiles the package in its first argument and makes bb write its key with the folder in the second.

    Raises
    ------
    ReferenceStringError
        If no network is there (bb gives up after some six seconds) or the points did not arrive.
    """
    folder = download_folder()
    if points > CHUNK_POINTS * len(CHUNKS):
        raise missing(points, "more than are known")
    if folder is None:
        raise missing(points, "no folder to download them into")
    if not network_looks_up():
        raise missing(points, "no network")
    with ScratchFolder() as scratch:
        package = Path(scratch)
        (package / "src").mkdir()
        (package / "Nargo.toml").write_text('[package]\nname = "filler"\ntype = "bin"\nauthors = [""]\n')
        source = FILLER.format(points=points, calls=points // GATES_PER_FILLER_CALL)
        (package / "src" / "main.nr").write_text(source)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write(package, folder)
        except (ZkkrumError, OSError) as error:
            why = str(error).splitlines()[0].rpartition(" / ")[2]
            raise missing(points, f"the download failed: {why}") from error
    if points_in(folder) < points:
        raise missing(points, "bb left fewer after its download")
    check(folder)
    return folder
