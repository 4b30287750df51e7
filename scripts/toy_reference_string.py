"""A reference string with a KNOWN secret, to measure circuits that the real points do not reach. Proves nothing.

    python scripts/toy_reference_string.py 262145 FOLDER     writes FOLDER/bn254_g1.dat (some minutes)

Whoever knows the secret can prove anything: bb's own verifier and every Solidity verifier that bb renders refuse such
proofs, because their second point is that of the real ceremony. zkkrum never uses these points, which no pin covers.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from zkkrum.extras import require
from zkkrum.protocol.field import P
from zkkrum.toolchain.crs import BASE_FIELD as Q

SECRET = int.from_bytes(hashlib.sha256(b"zkkrum toy tau, insecure").digest(), "big") % P
WINDOW = 11
"""Bits looked up at once: every multiple of the generator is a sum of 24 entries of tables."""
Affine = tuple[int, int]
Jacobian = tuple[int, int, int]


def add(point: Jacobian, x2: int, y2: int) -> Jacobian:
    """Add an affine point to one in Jacobian coordinates; they are never equal here, but with negligible chance."""
    x1, y1, z1 = point
    zz = z1 * z1 % Q
    h, r = (x2 * zz - x1) % Q, (y2 * z1 % Q * zz - y1) % Q
    h2 = h * h % Q
    h3, v = h * h2 % Q, x1 * h2 % Q
    x3 = (r * r - h3 - 2 * v) % Q
    return x3, (r * (v - x3) - y1 * h3) % Q, z1 * h % Q


def double(x: int, y: int) -> Affine:
    slope = 3 * x * x * pow(2 * y, -1, Q) % Q
    x3 = (slope * slope - 2 * x) % Q
    return x3, (slope * (x - x3) - y) % Q


def affine(points: list[Jacobian]) -> list[Affine]:
    """Leave Jacobian coordinates with one inversion for all."""
    before, product = [], 1
    for _, _, z in points:
        before.append(product)
        product = product * z % Q
    inverse, found = pow(product, -1, Q), []
    for (x, y, z), prefix in zip(reversed(points), reversed(before), strict=True):
        one = inverse * prefix % Q
        inverse = inverse * z % Q
        square = one * one % Q
        found.append((x * square % Q, y * square % Q * one % Q))
    return found[::-1]


def tables() -> list[list[Affine]]:
    """Return for every window the multiples 1, 2, … of the generator times the window's weight."""
    x, y, found = 1, 2, []
    for _ in range(-(-254 // WINDOW)):
        row: list[Jacobian] = [(x, y, 1), (*double(x, y), 1)]
        for _ in range(3, 1 << WINDOW):
            row.append(add(row[-1], x, y))
        found.append(affine(row))
        for _ in range(WINDOW):
            x, y = double(x, y)
    return found


def write_points(count: int, path: Path) -> None:
    """Write the powers of the secret times the generator, as bb reads them."""
    look_up, power, pending = tables(), 1, []
    with path.open("wb") as file:
        for i in range(count):
            total: Jacobian | None = None
            for row, shift in zip(look_up, range(0, 254, WINDOW), strict=False):
                if digit := power >> shift & (1 << WINDOW) - 1:
                    entry = row[digit - 1]
                    total = (*entry, 1) if total is None else add(total, *entry)
            assert total is not None
            pending.append(total)
            power = power * SECRET % P
            if len(pending) == 8192 or i == count - 1:
                file.writelines(x.to_bytes(32, "big") + y.to_bytes(32, "big") for x, y in affine(pending))
                pending = []


def second_point() -> list[int]:
    """Return the secret times the second group's generator, as Solidity's verifiers write it: imaginary parts first."""
    curve = require("py_ecc.optimized_bn128", "test")
    x, y = curve.normalize(curve.multiply(curve.G2, SECRET))
    return [int(part) for coordinate in (x, y) for part in reversed(coordinate.coeffs)]


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    write_points(int(sys.argv[1]), folder / "bn254_g1.dat")
