"""Parameters, their bounds, the widths that follow, and `context`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fractions import Fraction

import pytest

from zkkrum.errors import InputError
from zkkrum.protocol.field import pack
from zkkrum.protocol.params import (
    Acceptance,
    Detection,
    Params,
    Round,
    Score,
    client_word,
    parse_fraction,
    roster_hash,
)
from zkkrum.protocol.widths import LIMBS, Widths

BASE = Params.of(n=10, d=540, b=14)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n": 2}, "n (clients)"),
        ({"n": 254}, "n (clients)"),
        ({"d": 0}, "d (coordinates)"),
        ({"d": 2**31}, "d (coordinates)"),
        ({"b": 11}, "b (bits)"),
        ({"f": -1}, "2f + 2 < n"),
        ({"f": 4}, "2f + 2 < n"),
        ({"m": 0}, "m (selected clients)"),
        ({"m": 8}, "m (selected clients)"),
        ({"chunk": 541}, "multiple of 18"),
        ({"chunk": 0}, "multiple of 18"),
        ({"z": Fraction(2**32)}, "2^32"),
        ({"gamma": Fraction(-1)}, "2^32"),
        ({"score": Score.ALL_PAIRS}, "f must be 0"),
        ({"n": 4, "f": 0}, "mad needs n >= 5"),
        ({"detection": Detection.BRACKETS}, "gamma must be 0"),
        ({"detection": Detection.BRACKETS, "gamma": Fraction(0), "z": Fraction(3)}, "z^2 must be < n - 1"),
    ],
)
def test_a_broken_bound_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(
        InputError, match=named.replace("(", r"\(").replace(")", r"\)").replace("^", r"\^").replace("+", r"\+")
    ):
        replace(BASE, **change)  # type: ignore[arg-type]


def test_z_just_below_the_brackets_bound_is_allowed() -> None:
    replace(BASE, detection=Detection.BRACKETS, gamma=Fraction(0), z=Fraction(299, 100))


@pytest.mark.parametrize(("text", "value"), [("5", 5), ("1.25", Fraction(5, 4)), ("10/8", Fraction(5, 4)), ("0", 0)])
def test_fractions_are_exact_and_in_lowest_terms(text: str, value: Fraction) -> None:
    assert parse_fraction(text, "z") == value


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1/0", "0.5/2", "nan", "1_000", "４"])
def test_other_thresholds_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_fraction(text, "z")


@pytest.mark.parametrize("n", [3, 5, 10, 22, 23, 253])
@pytest.mark.parametrize("b", [8, 12, 16])
@pytest.mark.parametrize("detection", list(Detection))
def test_no_comparison_can_wrap(n: int, b: int, detection: Detection) -> None:
    if detection is Detection.MAD and n < 5:
        return
    largest = (2**63 - 1) // (2**b - 1) ** 2
    z = Fraction(2**32 - 1, 2**32 - 3) if detection is Detection.BRACKETS else Fraction(2**32 - 1)
    params = Params.of(n, min(largest, 2**31 - 1), b, detection=detection, z=z)
    for limb in LIMBS:
        widths = Widths.with_limb(params, limb)
        assert max(widths.key, widths.detection, widths.near, widths.threshold) <= 252
        assert widths.distance >= params.distance_bits
        assert widths.distance <= 252
        largest_value = params.score_max
        assert largest_value < 2**71
        if detection is Detection.MAD:
            assert 2**widths.detection > largest_value
            assert 2**widths.threshold > max(
                (z.denominator + z.numerator) * largest_value, 2 * largest_value * params.gamma.denominator
            )
        else:
            delta = n * largest_value
            assert 2**widths.detection > delta
            assert 2**widths.near > 9 * delta**2
            assert 2**widths.threshold > max(z.numerator, z.denominator) ** 2 * delta**2
        assert 2**widths.key > n * largest_value + n - 1


@pytest.mark.parametrize("n", [5, 10, 20, 49])
@pytest.mark.parametrize("chunked", [False, True], ids=["round", "verdict"])
def test_no_other_limb_is_forecast_cheaper(n: int, chunked: bool) -> None:
    params = Params.of(n, 1000, 12)
    if chunked:
        params = replace(params, chunk=params.pack)
    best = Widths.of(params)
    assert all(best.gates(params) <= Widths.with_limb(params, limb).gates(params) for limb in LIMBS)


def test_limbs_depend_on_the_crate() -> None:
    """A round shares the table of its values' ranges; a verdict has none to share."""
    shared, alone = Params.of(10, 650, 12), replace(Params.of(10, 650, 12), chunk=21)
    assert (Widths.of(shared).limb, Widths.of(alone).limb) == (12, 10)


def test_slots_hold_exactly_what_is_range_checked() -> None:
    """Two claims never share a word's bits: a slot is as wide as the range check, never narrower."""
    for n, d, b in ((5, 3, 8), (10, 650, 12), (20, 100, 12), (50, 2, 14), (253, 31, 16)):
        params = Params.of(n, d, b)
        for limb in LIMBS:
            width = Widths.with_limb(params, limb).distance
            claims = [2**width - 1] * params.claims
            words = pack(claims, width)
            assert len(words) == -(-params.claims // (252 // width))
            assert [word >> width * j & (2**width - 1) for word in words for j in range(252 // width)][
                : params.claims
            ] == claims


def a_round(**change: object) -> Round:
    fields: dict[str, object] = {
        "params": Params.of(n=3, d=4, f=0),
        "clip": 1.0,
        "roster": ("alice", "bob", "0x00000000000000000000000000000000000000aa"),
        "round_id": bytes(31) + b"\1",
    }
    return Round(**{**fields, **change})  # type: ignore[arg-type]


def test_context_is_abi_encoding_hashed() -> None:
    round = a_round()
    words = round.context_words()
    assert all(len(word) == 32 for word in words)
    assert words[0] == b"zkkrum-2".ljust(32, b"\0")
    assert round.context == hashlib.sha256(b"".join(words)).digest()
    assert int.from_bytes(words[14], "big") == 0x3FF0000000000000  # clip = 1.0 in binary64


@pytest.mark.parametrize(
    "change",
    [
        {"params": Params.of(n=3, d=5, f=0)},
        {"params": Params.of(n=3, d=4, f=0, acceptance=Acceptance.SELECTED)},
        {"clip": 1.5},
        {"roster": ("bob", "alice", "0x00000000000000000000000000000000000000aa")},
        {"round_id": bytes(31) + b"\2"},
        {"subject": bytes(31) + b"\1"},
        {"chain_id": 1},
        {"contract": bytes(19) + b"\1"},
    ],
)
def test_context_changes_with_every_field(change: dict[str, object]) -> None:
    assert a_round(**change).context != a_round().context


def test_roster_words() -> None:
    assert client_word("0x" + "Ab" * 20) == bytes(12) + b"\xab" * 20
    assert client_word("alice") == hashlib.sha256(b"alice").digest()
    assert roster_hash(["alice"]) == hashlib.sha256(client_word("alice")).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"clip": 0.0},
        {"clip": float("inf")},
        {"clip": float("nan")},
        {"roster": ("alice", "bob")},
        {"roster": ("alice", "bob", "bob")},
        {"roster": ("alice", "0x" + "AB" * 20, "0x" + "ab" * 20)},
        {"round_id": b"1"},
        {"chain_id": -1},
    ],
)
def test_a_round_with_a_bad_field_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        a_round(**change)


def test_ids_of_rules_may_be_plain_strings() -> None:
    plain = Params.of(10, 3, score="krum-2017", detection="mad", acceptance="selected", z="9/2", gamma="0.5")  # type: ignore[arg-type]
    same = Params.of(10, 3, acceptance=Acceptance.SELECTED, z=Fraction(9, 2), gamma=Fraction(1, 2))
    assert plain == same
    assert (plain.f, plain.score is Score.KRUM_2017, plain.acceptance is Acceptance.SELECTED) == (3, True, True)
    with pytest.raises(InputError, match="score must be one of krum-2017, all-pairs, found 'krum'"):
        Params.of(10, 3, score="krum")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="chunk must be a positive multiple"):
        Params.of(10, 3, chunk=0)
