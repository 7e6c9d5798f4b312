"""
Secrets out of artefacts: every string that holds one gets "***" in its place.

Only strings are looked at, never the text of a line: a token of two letters must
not break the JSON around it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

__all__ = ["Redactor"]


class Redactor:
    """
    Puts "***" for each of some strings.

    Args:
        secrets: The strings. Empty ones are ignored.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        # JSON inside a string has the secret escaped once more. Longest first, for one may
        # hold another.
        wanted = {form for secret in secrets if secret for form in (secret, _escaped(secret))}
        self._forms = sorted(wanted, key=len, reverse=True)
        self._in_json = {_escaped(form).encode() for form in self._forms}

    def found_in(self, line: bytes) -> bool:
        """Whether a line of JSON may hold a secret; quick, for most lines hold none."""
        return any(form in line for form in self._in_json)

    def text(self, text: str) -> str:
        """The text without secrets."""
        for form in self._forms:
            text = text.replace(form, "***")
        return text

    def value(self, value: Any) -> Any:
        """A value made of dicts, lists, strings and numbers, without secrets."""
        if not self._forms:
            return value
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.value(key): self.value(item) for key, item in value.items()}
            case list() | tuple():
                return [self.value(item) for item in value]
            case _:
                return value


def _escaped(text: str) -> str:
    return msgspec.json.encode(text).decode()[1:-1]
