"""The parameters of a round, their bounds, and `context`.

Must not know files, processes or circuits. Bounds are checked here, once; everything below trusts them.
Notation (used everywhere): n clients, d coordinates, b bits per value, f tolerated Byzantine clients,
m selected clients, z and gamma the detection thresholds.
"""

from __future__ import annotations

import hashlib
import re
import struct
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from math import ceil, isfinite
from typing import TypeVar

from zkkrum.errors import InputError, UnknownCharacterError
from zkkrum.protocol.field import PACKABLE_BITS

PROTOCOL = "zkkrum-2"
BITS = (8, 10, 12, 14, 16)
N_MIN, N_MAX = 3, 253
D_MAX = 2**31 - 1
DISTANCE_BITS_MAX = 63
ID_BYTES_MAX = 200
"""Longest client id in UTF-8: it names files."""
INVISIBLE = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xE0100, 0xE01EF),
)
"""First and last of the characters that count as printable and show nothing: joiners, fillers, variation selectors."""
MAD_N_MIN = 5

Rule = TypeVar("Rule", bound=Enum)

_DECIMAL = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10})?|[0-9]{1,10}/0*[1-9][0-9]{0,9}")


class Score(str, Enum):
    """How a client's score is computed from the squared distances."""

    KRUM_2017 = "krum-2017"
    ALL_PAIRS = "all-pairs"


class Detection(str, Enum):
    """How clients are flagged from their scores."""

    MAD = "mad"
    BRACKETS = "brackets"


class Acceptance(str, Enum):
    """Whose values are aggregated."""

    UNFLAGGED = "unflagged"
    """Everybody who is not flagged."""
    SELECTED = "selected"
    """Whoever is selected and not flagged; with m = n - f this is Multi-Krum as its users know it."""


RULES: dict[str, type[Enum]] = {"score": Score, "detection": Detection, "acceptance": Acceptance}


def member(rules: type[Rule], value: object, name: str) -> Rule:
    """Return the rule of this id; `InputError`, naming all there are, if there is none."""
    try:
        return rules(value)
    except ValueError as error:
        known = ", ".join(str(rule.value) for rule in rules)
        raise InputError(f"parameters: {name} must be one of {known}, found {str(value)[:40]!r}") from error


def parse_fraction(text: str | Fraction, name: str) -> Fraction:
    """Parse ``"5"``, ``"1.25"`` or ``"5/4"`` exactly, into lowest terms.

    Raises
    ------
    InputError
        If the text is neither, is negative, or its terms do not fit 32 bits.
    """
    if isinstance(text, Fraction):
        value = text
    elif isinstance(text, str) and _DECIMAL.fullmatch(text):
        value = Fraction(text)
    else:
        raise InputError(f"{name}: expected a decimal or a fraction such as 5, 1.25 or 5/4, found {str(text)[:40]!r}")
    if not (0 <= value.numerator < 2**32 and value.denominator < 2**32):
        raise InputError(f"{name}: numerator and denominator must be in [0, 2^32), found {value}")
    return value


def default_f(n: int, score: Score) -> int:
    """Return the largest tolerated f: floor((n-3)/2) under krum-2017, 0 under all-pairs."""
    return max((n - 3) // 2, 0) if score is Score.KRUM_2017 else 0


def default_z(n: int, detection: Detection) -> Fraction:
    """Return 5 under mad and 2 under brackets, or 1 there for n < 6, where no score can lie 2σ out."""
    if detection is Detection.MAD:
        return Fraction(5)
    return Fraction(2 if n >= 6 else 1)


DEFAULT_GAMMA = {Detection.MAD: Fraction(1, 4), Detection.BRACKETS: Fraction(0)}


@dataclass(frozen=True)
class Params:
    """What a circuit, hence its verification key, is made of. All of it is public.

    Parameters
    ----------
    n, d, b
        Clients, coordinates of an update, bits of a quantized value.
    chunk
        Coordinates in a leaf of a commitment: a multiple of `pack`.
    f, m
        Tolerated Byzantine clients; number of clients selected.
    score, detection
        The two rules.
    z, gamma
        Detection thresholds (`mad`: multiples of the deviation, least relative excess; `brackets`: z only).
    acceptance
        Whose values are aggregated.

    Raises
    ------
    InputError
        If a bound of the protocol does not hold; the message names it.
    """

    n: int
    d: int
    b: int
    chunk: int
    f: int
    m: int
    score: Score
    detection: Detection
    z: Fraction
    gamma: Fraction
    acceptance: Acceptance = Acceptance.UNFLAGGED

    def __post_init__(self) -> None:
        def require(ok: bool, rule: str, found: object) -> None:
            if not ok:
                raise InputError(f"parameters: {rule}, found {found}")

        for name, rules in RULES.items():  # a plain string equals its member and is not it
            object.__setattr__(self, name, member(rules, getattr(self, name), name))
        for name in ("z", "gamma"):
            object.__setattr__(self, name, parse_fraction(getattr(self, name), f"parameters: {name}"))
        n, d, b, f, m = self.n, self.d, self.b, self.f, self.m
        require(N_MIN <= n <= N_MAX, f"n (clients) must be in [{N_MIN}, {N_MAX}]", n)
        require(1 <= d <= D_MAX, "d (coordinates) must be in [1, 2^31)", d)
        require(b in BITS, f"b (bits) must be one of {', '.join(map(str, BITS))}", b)
        require(
            f >= 0 and 2 * f + 2 < n,
            "f (tolerated Byzantine clients) must satisfy 0 <= f and 2f + 2 < n",
            f"f = {f}, n = {n}",
        )
        require(1 <= m <= n - f, "m (selected clients) must be in [1, n - f]", f"m = {m}, n = {n}, f = {f}")
        require(
            0 < self.chunk <= D_MAX + self.pack and self.chunk % self.pack == 0,
            f"chunk must be a positive multiple of {self.pack} at b = {b}",
            self.chunk,
        )
        bits = self.distance_bits
        require(
            bits <= DISTANCE_BITS_MAX,
            f"squared distances must fit {DISTANCE_BITS_MAX} bits",
            f"{bits} at d = {d}, b = {b}",
        )
        if self.score is Score.ALL_PAIRS:
            require(f == 0, "f must be 0 under all-pairs", f)
        if self.detection is Detection.MAD:
            require(n >= MAD_N_MIN, f"mad needs n >= {MAD_N_MIN}", n)
        else:
            require(self.gamma == 0, "gamma must be 0 under brackets", self.gamma)
            require(
                self.z**2 < n - 1,
                "z^2 must be < n - 1 under brackets (no score can lie further out)",
                f"z = {self.z}, n = {n}",
            )

    @classmethod
    def of(
        cls,
        n: int,
        d: int,
        b: int = 12,
        *,
        chunk: int | None = None,
        f: int | None = None,
        m: int = 1,
        score: Score = Score.KRUM_2017,
        detection: Detection | None = None,
        z: Fraction | None = None,
        gamma: Fraction | None = None,
        acceptance: Acceptance = Acceptance.UNFLAGGED,
    ) -> Params:
        """Fill in the protocol's defaults; ``chunk`` defaults to one leaf that holds all d coordinates.

        Detection defaults to ``mad``, or to ``brackets`` where n < 5.

        Examples
        --------
        >>> Params.of(n=10, d=650).f
        3
        """
        score = member(Score, score, "score")
        default = Detection.MAD if n >= MAD_N_MIN else Detection.BRACKETS
        detection = member(Detection, detection, "detection") if detection else default
        pack = PACKABLE_BITS // b if b in BITS else 1
        return cls(
            n=n,
            d=d,
            b=b,
            chunk=whole_chunk(d, pack) if chunk is None else chunk,
            f=default_f(n, score) if f is None else f,
            m=m,
            score=score,
            detection=detection,
            z=default_z(n, detection) if z is None else z,
            gamma=DEFAULT_GAMMA[detection] if gamma is None else gamma,
            acceptance=acceptance,
        )

    @property
    def pack(self) -> int:
        """Values in a word of the commitment."""
        return PACKABLE_BITS // self.b

    @property
    def chunks(self) -> int:
        """Number T of chunks, hence leaves per client."""
        return ceil(self.d / self.chunk)

    def chunk_range(self, t: int) -> range:
        """Coordinates of chunk ``t``; the last may be shorter."""
        return range(t * self.chunk, min(self.d, (t + 1) * self.chunk))

    @property
    def pairs(self) -> int:
        """Number n(n-1)/2 of distances."""
        return self.n * (self.n - 1) // 2

    @property
    def neighbours(self) -> int:
        """How many distances enter a score: n - f - 2 (Blanchard et al. 2017), or all n - 1."""
        return self.n - self.f - 2 if self.score is Score.KRUM_2017 else self.n - 1

    @property
    def distance_bits(self) -> int:
        """DB: bits of the largest possible squared distance or norm, d·(2^b - 1)²."""
        return int(self.d * (2**self.b - 1) ** 2).bit_length()

    @property
    def claims(self) -> int:
        """Number of claimed distances and norms: n(n-1)/2 + n."""
        return self.pairs + self.n

    @property
    def score_max(self) -> int:
        """Largest possible score."""
        return self.neighbours * self.d * int(2**self.b - 1) ** 2

    @property
    def sum_bits(self) -> int:
        """SB: bits of the largest possible sum of values, n·(2^b - 1)."""
        return int(self.n * (2**self.b - 1)).bit_length()

    @property
    def group(self) -> int:
        """Coordinates g in a word of the aggregate."""
        return PACKABLE_BITS // self.sum_bits


def check_client_id(client: str) -> None:
    """Raise `InputError` unless an id can name a file, be printed on a line, and be read there for what it is.

    Printable leaves out control, format (of direction, too), private and unassigned characters and surrogates, and
    every separator but the space. Everything else may stand in an id: whoever prints one quotes it.
    """
    if any(map(_unassigned, client)):
        raise UnknownCharacterError(
            f"roster: {client[:ID_BYTES_MAX]!a} has a character that the Unicode of this program does not know",
            "where Unicode is newer it may be a good one",
        )
    try:
        size = len(client.encode())
    except UnicodeEncodeError:
        size = 0
    readable = 0 < size <= ID_BYTES_MAX and client.isprintable() and client[0] not in ". " and client[-1] != " "
    if not readable or set(client) & set("/\\") or any(map(_invisible, client)):
        raise InputError(
            f"roster: {client[:ID_BYTES_MAX]!a} is not usable as a file name and in a sentence: expected 1 to "
            f"{ID_BYTES_MAX} bytes of printable and visible UTF-8 without slashes, not starting with a dot or a space, "
            "nor ending with a space"
        )
    if not unicodedata.is_normalized("NFC", client):
        raise InputError(
            f"roster: {client!a} is not in Unicode's normal form C: expected {unicodedata.normalize('NFC', client)!a}"
        )


def _unassigned(character: str) -> bool:
    """Tell whether a character may be assigned in a later Unicode; noncharacters never will be."""
    point = ord(character)
    never = 0xFDD0 <= point <= 0xFDEF or point & 0xFFFE == 0xFFFE
    return unicodedata.category(character) == "Cn" and not never


def _invisible(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in INVISIBLE)


def folded(client: str) -> str:
    """Return what two ids of one roster must not share: how they read without regard to case and typography.

    NFKC of the upper case of the lower case of NFKC, which is at least as coarse as Unicode's case folding and which
    other languages have, too.

    Examples
    --------
    >>> folded("Straße") == folded("STRASSE") == folded("ｓｔｒａｓｓｅ")
    True
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", client).lower().upper())


def is_address(client: str) -> bool:
    """Tell whether an id is an address of an EVM chain, ``0x`` and 40 hexadecimal digits."""
    return re.fullmatch(r"0x[0-9a-fA-F]{40}", client) is not None


def whole_chunk(d: int, pack: int) -> int:
    """Return the chunk that holds all d coordinates in one leaf: whole words of ``pack`` values."""
    return ceil(d / pack) * pack


def id_word(text: str) -> bytes:
    """Return the 32-byte word of an ASCII id, left-aligned, as Solidity has a string literal of type ``bytes32``."""
    return text.encode("ascii").ljust(32, b"\0")


def clip_bits(clip: float) -> int:
    """Return the binary64 pattern of a number.

    Examples
    --------
    >>> hex(clip_bits(1.0))
    '0x3ff0000000000000'
    """
    return int.from_bytes(struct.pack(">d", clip), "big")


def client_word(client: str) -> bytes:
    """Return the 32-byte roster word of a client: its address left-padded, or SHA-256 of its UTF-8 id."""
    if is_address(client):
        return bytes(12) + bytes.fromhex(client[2:])
    return hashlib.sha256(client.encode()).digest()


def roster_hash(roster: Sequence[str]) -> bytes:
    """Return SHA-256 of the roster words, in roster order."""
    return hashlib.sha256(b"".join(client_word(c) for c in roster)).digest()


@dataclass(frozen=True)
class Round:
    """One round: its parameters and what binds it to a place, a time and a roster. All of it is public.

    Parameters
    ----------
    params
        Constants of the circuit.
    clip
        Quantization bound c, in units of an update's entries.
    roster
        Client ids (UTF-8) or 0x-addresses, in the order of commitments and bitmap bits.
    round_id
        32 bytes that never repeat.
    subject
        SHA-256 of tensor layout and base model, or 32 zero bytes.
    chain_id, contract
        Where the verdict will be used; zero off chain. ``contract`` is a 20-byte address.

    Raises
    ------
    InputError
        If a field is out of its bounds or the roster repeats a client.
    """

    params: Params
    clip: float
    roster: tuple[str, ...]
    round_id: bytes
    subject: bytes = bytes(32)
    chain_id: int = 0
    contract: bytes = bytes(20)
    context: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (isfinite(self.clip) and self.clip > 0):
            raise InputError(f"clip: expected a finite number > 0, found {self.clip}")
        if len(self.roster) != self.params.n:
            raise InputError(f"roster: expected n = {self.params.n} clients, found {len(self.roster)}")
        seen: dict[str, str] = {}
        for client in self.roster:
            check_client_id(client)
            if (key := folded(client)) in seen:
                raise InputError(
                    f"roster: clients must be distinct, whatever the case and form of their letters, found "
                    f"{seen[key]!a} and {client!a}"
                )
            seen[key] = client
        if len(self.round_id) != 32 or len(self.subject) != 32 or len(self.contract) != 20:
            raise InputError("round: expected 32 bytes for id and subject and 20 for the contract address")
        if not 0 <= self.chain_id < 2**256:
            raise InputError(f"round: expected a chain id in [0, 2^256), found {self.chain_id}")
        object.__setattr__(self, "context", hashlib.sha256(b"".join(self.context_words())).digest())

    def context_words(self) -> list[bytes]:
        """Return the 32-byte words whose SHA-256 is `context`; equal to ``abi.encode`` (protocol: Commitment)."""
        p = self.params

        def number(x: int) -> bytes:
            return x.to_bytes(32, "big")

        counts = (p.n, p.d, p.b, p.chunk, p.f, p.m)
        thresholds = (p.z.numerator, p.z.denominator, p.gamma.numerator, p.gamma.denominator)
        return [
            *map(id_word, (PROTOCOL, p.score.value, p.detection.value, p.acceptance.value)),
            *map(number, (*counts, *thresholds, clip_bits(self.clip))),
            roster_hash(self.roster),
            self.subject,
            self.round_id,
            number(self.chain_id),
            self.contract.rjust(32, b"\0"),
        ]
