"""
One table of a TOML file, read key by key.

What is wrong with it is collected and not raised: nobody likes to mend a file one
complaint at a time.

Rule: a complaint names the type of what it found, not the value, which may be a secret
in the wrong place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from harness.complaints import Complaint, did_you_mean, found

__all__ = ["Table"]

_NONE: Final[Mapping[str, str]] = {}


class Table:
    """
    A table, its known keys, and what was found wrong with it so far.

    Reading a key that is absent or wrong gives None; what is wrong is noted once.

    Args:
        values: The table.
        name: What complaints call it.
        known: The keys it may have.

    Attributes:
        complaints: Where and what.
        bad: The keys they are about.
    """

    def __init__(self, values: Mapping[str, Any], *, name: str, known: Collection[str]) -> None:
        self.values = values
        self.name = name
        self.known = known
        self.complaints: list[Complaint] = []
        self.bad: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def complain(self, key: str, text: str) -> None:
        """Note what is wrong with a key."""
        self.bad.add(key)
        self.complaints.append((f"{self.name}.{key}", text))

    def refuse_unknown(self, *, advice: Mapping[str, str] = _NONE) -> None:
        """Complain of each key that is not known; of some with advice of their own."""
        for key in self.values:
            if key in self.known:
                continue
            takes = f"unknown key; {self.name} takes {', '.join(self.known)}"
            self.complain(key, advice.get(key, takes + did_you_mean(key, self.known)))

    def _of_type(self, key: str, types: tuple[type, ...], expected: str) -> Any:
        value = None if key in self.bad else self.values.get(key)
        # Not isinstance: True is no number here.
        if value is None or type(value) in types:
            return value
        self.complain(key, f"expected {expected}, found {found(value)}")
        return None

    def text(self, key: str) -> str | None:
        """A text that is not empty."""
        value: str | None = self._of_type(key, (str,), "text")
        if value == "":
            self.complain(key, "is empty")
            return None
        return value

    def flag(self, key: str) -> bool | None:
        """True or false."""
        value: bool | None = self._of_type(key, (bool,), "true or false")
        return value

    def number(self, key: str) -> float | None:
        """A number, whole or not."""
        value: float | None = self._of_type(key, (int, float), "a number")
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts."""
        values = self._of_type(key, (list,), "a list of texts")
        if values is None:
            return None
        for n, value in enumerate(values):
            if type(value) is not str:
                self.complain(f"{key}[{n}]", f"expected text, found {found(value)}")
                self.bad.add(key)
        return None if key in self.bad else tuple(values)

    def named_texts(self, key: str) -> dict[str, str] | None:
        """A table of texts. Those that are none are left out."""
        values = self._of_type(key, (dict,), "a table of texts")
        if values is None:
            return None
        for name, value in values.items():
            if type(value) is not str:
                self.complain(f"{key}.{name}", f"expected text, found {found(value)}")
        return {name: value for name, value in values.items() if type(value) is str}

    def path(self, key: str, *, under: Path) -> Path | None:
        """A path, relative to that folder."""
        value = self.text(key)
        return None if value is None else under / value
