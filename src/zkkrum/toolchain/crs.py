"""The reference string: where its points are, whether they suffice, and how to get more.

Must not know circuits beyond their number of gates. bb would download silently and wait for a network that
is not there; so its folder is looked at before bb starts.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]

from zkkrum.errors import ReferenceStringError, ZkkrumError
from zkkrum.toolchain.pins import cache_dir

POINT_BYTES = 64
COMPRESSED_POINT_BYTES = 32
DOWNLOAD_CHUNK = 4 * 2**20
"""bb downloads compressed points in chunks of that many bytes, and checks the SHA-256 of each."""
RESERVED_ROWS = 9
"""Rows bb adds to a circuit for zero knowledge (measured: 2^15 points serve 32,759 gates, not 32,767)."""
POINTS_MIN = 256
GENERATOR = (1).to_bytes(32, "big") + (2).to_bytes(32, "big")
"""The first point; verification needs no other."""

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


def points_for(gates: int) -> int:
    """Return the points bb wants for a circuit of that many gates: a power of two.

    >>> points_for(32_759), points_for(32_760)
    (32768, 65536)
    """
    return int(max(POINTS_MIN, 1 << (gates + RESERVED_ROWS - 1).bit_length()))


def gates_for(points: int) -> int:
    """Return the largest circuit that many points serve, in gates.

    >>> gates_for(32_769)
    32759
    """
    return (1 << points.bit_length() - 1) - RESERVED_ROWS if points >= POINTS_MIN else 0


def default_folder() -> Path:
    """Return the folder bb itself downloads into."""
    return Path.home() / ".bb-crs"


def candidates() -> list[Path]:
    """Return the folders to look in, in order: ``CRS_PATH``, then bb's own."""
    override = os.environ.get("CRS_PATH")
    return ([Path(override).expanduser().absolute()] if override else []) + [default_folder()]


def points_in(folder: Path) -> int:
    """Return how many points a folder holds; 0 if there is none."""
    count = 0
    for name, size in (("bn254_g1.dat", POINT_BYTES), ("bn254_g1_compressed.dat", COMPRESSED_POINT_BYTES)):
        try:
            count = max(count, (folder / name).stat().st_size // size)
        except OSError:
            continue
    return count


def best() -> tuple[Path | None, int]:
    """Return the folder with the most points, and their number; the first of equals."""
    found = [(folder, points_in(folder)) for folder in candidates()]
    folder, points = max(found, key=lambda pair: pair[1])
    return (folder, points) if points else (None, 0)


def points_available() -> int:
    """Return the number of points at hand without a download."""
    return best()[1]


def look_up(points: int) -> Path | None:
    """Return the first folder with at least ``points`` points, if any."""
    return next((folder for folder in candidates() if points_in(folder) >= points), None)


def missing(points: int, why: str = "") -> ReferenceStringError:
    """Return the error that says what was found where, what is needed, and how to get it."""
    found = []
    for folder in candidates():
        count = points_in(folder)
        serves = f"{count:,} points, enough for circuits of {gates_for(count):,} gates" if count else "none"
        found.append(f"{folder}: {serves}")
    megabytes = -(-points * COMPRESSED_POINT_BYTES // DOWNLOAD_CHUNK) * DOWNLOAD_CHUNK >> 20
    return ReferenceStringError(
        f"the reference string needs {points:,} points ({points * POINT_BYTES:,} bytes of bn254_g1.dat); "
        f"found {'; '.join(found)}{f' ({why})' if why else ''}",
        f"with a network, `zkkrum setup --points {points}` downloads {megabytes} MiB into "
        f"{default_folder()}; without one, copy a bn254_g1.dat there or name its folder in CRS_PATH",
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
    if not network_looks_up():
        raise missing(points, "no network")
    folder = default_folder()
    with tempfile.TemporaryDirectory(prefix="zkkrum-") as scratch:
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
    return folder


def one_point() -> Path:
    """Return a folder with a reference string of one point, made when missing: enough to verify."""
    folder = cache_dir() / "crs-one-point"
    path = folder / "bn254_g1.dat"
    try:
        if path.read_bytes() == GENERATOR:
            return folder
    except OSError:
        pass
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{os.getpid()}-{os.urandom(4).hex()}"
        partial.write_bytes(GENERATOR)
        partial.replace(path)
    except OSError as error:
        raise ReferenceStringError(
            f"cannot write {path}: {error.strerror}", "make it writable or name another folder in ZKKRUM_CACHE"
        ) from error
    return folder
