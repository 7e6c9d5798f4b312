"""Keys and what they hold; settings and all that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from harness.errors import InvalidValue
from harness.resilience.settings import Key, Settings, complaints_in, key, keys_of


@dataclass(frozen=True, kw_only=True)
class Sample(Settings):
    """One of each."""

    count: int = key(
        5, low=1, high=10, about="how many", variable="COUNT", advice="few", live=False
    )
    share: float = key(0.5, above=0, high=1, about="a part")
    limit_s: float | None = key(None, above=0, about="seconds")
    flag: bool = key(False, about="whether")
    kind: Literal["a", "b"] = key("a", about="which")
    secret: str = key("", about="hidden", secret=True)

    def contradictions(self) -> Iterable[tuple[tuple[str, ...], str]]:
        if self.count > 8 and self.flag:
            yield ("count", "flag"), "is too many for a flag"


def test_a_key_has_what_was_written_and_what_its_type_says():
    """
    Range, variable, advice and the rest; type, choices, and whether it may be absent.
    """
    keys = keys_of(Sample)

    assert list(keys) == ["count", "share", "limit_s", "flag", "kind", "secret"]
    assert keys["count"] == Key(
        about="how many",
        low=1,
        high=10,
        variable="COUNT",
        live=False,
        advice="few",
        type=int,
        default=5,
    )
    assert (keys["share"].above, keys["share"].live, keys["share"].secret) == (0, True, False)
    assert (keys["share"].variable, keys["share"].advice, keys["share"].optional) == ("", "", False)
    assert (keys["limit_s"].type, keys["limit_s"].optional, keys["limit_s"].choices) == (
        float,
        True,
        (),
    )
    assert (keys["kind"].choices, keys["kind"].type) == (("a", "b"), str)
    assert keys["secret"].secret


@pytest.mark.parametrize(
    ("name", "held", "refused"),
    [
        ("count", [1, 10], [0, 11, 1.0, True, "5", None]),
        ("share", [1, 1.0, 0.001], [0, 0.0, 1.001, False, float("nan"), float("inf"), None]),
        ("limit_s", [None, 1, 2**53], [0, -1, 2**53 + 2, 10**400, float("inf"), "1"]),
        ("flag", [True, False], [0, 1, "true", None]),
        ("kind", ["a", "b"], ["c", "", None, 1]),
        ("secret", ["", "x"], [None, 1]),
    ],
)
def test_a_key_holds_what_it_may_and_nothing_beside(name: str, held: list[Any], refused: list[Any]):
    """
    Its type exactly, though a whole number is a number; its bounds, and none without an end.
    """
    rules = keys_of(Sample)[name]

    assert [value for value in held if not rules.holds(value)] == []
    assert [value for value in refused if rules.holds(value)] == []


def test_without_bounds_of_its_own_a_number_survives_being_a_float():
    """
    Either way, to the last.
    """
    rules = Key(about="any", type=int)

    assert rules.holds(2**53)
    assert rules.holds(-(2**53))
    assert not rules.holds(2**53 + 1)
    assert not rules.holds(-(2**53) - 1)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("count", "a whole number, at least 1, at most 10"),
        ("share", "a number, above 0, at most 1"),
        ("limit_s", 'a number, above 0, or "none"'),
        ("flag", "true or false"),
        ("kind", '"a" or "b"'),
        ("secret", "text"),
    ],
)
def test_a_key_says_what_it_may_be(name: str, allowed: str):
    """
    In words, numbers in full.
    """
    assert keys_of(Sample)[name].allowed == allowed
    assert Key(about="any", type=int, high=10_000_000).allowed.endswith("at most 10000000")
    assert Key(about="any", type=float, low=0.25).allowed.endswith("at least 0.25")


def wrong(**values: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidValue) as caught:
        Sample(**values)
    assert caught.value.headline.startswith("Sample: ")
    return list(caught.value.details)


def test_all_that_is_wrong_comes_at_once():
    """
    In the order of the keys; a contradiction of keys that are right comes last.
    """
    assert wrong(kind="c", share=2, limit_s=0) == [
        ("share", "expected a number, above 0, at most 1, found 2"),
        ("limit_s", 'expected a number, above 0, or "none", found 0'),
        ("kind", 'expected "a" or "b", found "c"'),
    ]
    assert wrong(count=9, flag=True, share=0) == [
        ("share", "expected a number, above 0, at most 1, found 0"),
        ("count", "is too many for a flag"),
    ]


def test_a_contradiction_of_a_key_that_is_wrong_itself_is_none():
    """
    What would become of it is not known.
    """
    assert [name for name, _ in wrong(count=11, flag=True)] == ["count"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, '"none"'),
        (True, "true"),
        ("x" * 78, f'"{"x" * 78}"'),
        ("x" * 79, f'"{"x" * 78}…'),
        (2**256 - 1, str(2**256 - 1)[:79] if len(str(2**256 - 1)) > 80 else str(2**256 - 1)),
        (2**256, "a whole number of 257 bits"),
    ],
)
def test_what_was_found_is_shown_and_cut_where_it_is_long(value: Any, shown: str):
    """
    Eighty characters; of a number that nobody would read, its length.
    """
    (found,) = wrong(kind=value)

    assert found[1] == f'expected "a" or "b", found {shown}'


def test_a_secret_is_shown_to_nobody():
    """
    Neither where it is wrong, nor where all is told.
    """
    (found,) = wrong(secret=12345)

    assert found == ("secret", "expected text, found a value that is kept secret")
    assert "hush" not in repr(Sample(secret="hush"))
    assert "count=5" in repr(Sample())


def test_values_are_judged_before_anything_is_made_of_them():
    """
    What is absent has its default, and what is not known is no concern here.
    """
    assert complaints_in(Sample, {"count": 3, "other": 1}) == []
    assert [name for name, _ in complaints_in(Sample, {"count": 9, "flag": True})] == ["count"]
