"""The log of a program: the file its output goes to, read without what must not be told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["Log"]


class Log:
    """
    A log file.

    Args:
        path: The file; it need not be there yet.
        kept: Whether it will still be there afterwards.
        secrets: What must not stand in it, nor in what is quoted of it.
    """

    def __init__(self, path: Path, *, kept: bool = True, secrets: Sequence[str] = ()) -> None:
        self.path = path
        self.kept = kept
        self._secrets = secrets
        self._lost = ""

    def written(self, *, since: int = 0) -> str:
        """What stands in it from that byte on, without secrets."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return ""
        return self._clean(data[since:].decode("utf-8", "replace"))

    def size(self) -> int:
        """How long it is, in bytes."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def tail(self, lines: int = 12) -> str:
        """Its last lines."""
        text = "\n".join(self.written().splitlines()[-lines:]) or "(it wrote nothing)"
        return f"{text}\n({self._lost})" if self._lost else text

    def next_step(self) -> tuple[str, str]:
        """The row of an error about its program that says what to do next."""
        rest = f"{self.path} has the rest; " if self.kept else ""
        return "next", f"{rest}run the command by hand and see what it says"

    def append(self, text: bytes) -> None:
        """Add to it; where that cannot be done its readers are told."""
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(text)
        except OSError as error:
            self._lost = f"some of it could not be written: {error.strerror or error}"

    def clean(self) -> None:
        """Put "***" for every secret in it; for when nobody writes there any more."""
        try:
            text = self.path.read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            return
        if (clean := self._clean(text)) != text:
            self.path.write_text(clean, "utf-8", "surrogateescape")

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text
