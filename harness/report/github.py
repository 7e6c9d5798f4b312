"""Workflow commands of GitHub Actions: a failure shown beside the line that failed."""

from __future__ import annotations

__all__ = ["annotation"]


def annotation(*, file: str, line: int, title: str, message: str) -> str:
    """
    An error annotation, one line.

    Args:
        file: The file, as the repository knows it.
        line: Its line, from 1.
        title: A few words.
        message: What happened; may have several lines.

    Source: GitHub's documentation of workflow commands, "Setting an error message".
    """
    where = f"file={_property(file)},line={line},title={_property(title)}"
    return f"::error {where}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
