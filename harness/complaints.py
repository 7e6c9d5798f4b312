"""What is wrong with what somebody gave: collected, worded alike, and raised all at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from harness.errors import InvalidValue

__all__ = ["Complaint", "did_you_mean", "found", "refused"]

Complaint = tuple[str, str]
"""Which field, and what is wrong with it."""

_KINDS: Final[Mapping[type, str]] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


def refused(where: str, complaints: Sequence[Complaint]) -> InvalidValue:
    """All that is wrong with one thing, in one error."""
    problems = "1 problem" if len(complaints) == 1 else f"{len(complaints)} problems"
    return InvalidValue(f"{where}: {problems}", complaints)


def found(value: Any) -> str:
    """What a value is, in TOML's words."""
    return _KINDS.get(type(value), "a date or time")


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A question to end a complaint with; "" where nothing known is close."""
    close = get_close_matches(word, known, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
