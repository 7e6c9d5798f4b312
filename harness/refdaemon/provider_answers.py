"""What the provider's answers mean, and how a key goes into a header. No I/O."""

from __future__ import annotations

import string
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from harness.http.client import Answer
from harness.resilience.breaker import Verdict

__all__ = ["Failed", "header_of", "judged"]

# The last: JSON nested deeper than the decoder goes, which any provider can send.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_VISIBLE: Final = string.punctuation.replace("%", "")
_MAX_KEY_CHARACTERS: Final = 255
_MAX_WORDS: Final = 200
_MAX_RETRY_AFTER_DIGITS: Final = 9


@dataclass(frozen=True)
class Failed:
    """
    How one attempt failed.

    Attributes:
        kind: What it is in the end, if it is not repeated.
        message: What happened.
        verdict: How it counts for the breaker.
        passes: Whether another attempt may go better.
        refused: Whether the provider certainly did not work on it.
        retry_after_s: What the provider said of when to ask again.
    """

    kind: Literal["PROVIDER_ERROR", "TIMEOUT"]
    message: str
    verdict: Verdict = "failure"
    passes: bool = True
    refused: bool = False
    retry_after_s: float | None = None


class _Said(msgspec.Struct):
    text: str


def judged(answer: Answer) -> str | Failed:
    """The text of an answer, or how it failed."""
    status = answer.status
    if status != 200:
        message = f"the provider answered {status}: {_words(answer.body)}"
        if 400 <= status < 500:
            # The question's own fault, or a limit on whoever asks: no sign of bad health.
            return Failed(
                "PROVIDER_ERROR",
                message,
                verdict="ignored",
                passes=False,
                refused=True,
                retry_after_s=_retry_after_s(answer),
            )
        return Failed(
            "TIMEOUT" if status == 504 else "PROVIDER_ERROR",
            message,
            passes=status >= 500,
            retry_after_s=_retry_after_s(answer),
        )
    try:
        return msgspec.json.decode(answer.body, type=_Said).text
    except _UNREADABLE as wrong:
        message = f"the provider's answer cannot be read: {wrong}"
        return Failed("PROVIDER_ERROR", message, passes=False)


def _words(body: bytes) -> str:
    """The provider's own: its JSON's `error`, else the body's first line."""
    try:
        said = str(msgspec.json.decode(body, type=dict[str, Any])["error"])
    except (*_UNREADABLE, KeyError):
        said = body[: _MAX_WORDS * 4].decode("utf-8", "replace")
    lines = said.strip().splitlines()
    return lines[0][:_MAX_WORDS] if lines else "no words"


def _retry_after_s(answer: Answer) -> float | None:
    """Seconds; a date says nothing to whoever has no clock in common."""
    text = answer.headers.get("retry-after", "")
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_RETRY_AFTER_DIGITS:
        return None
    return float(text)


def header_of(key: str) -> str:
    """
    A key as the header Idempotency-Key can carry it: visible ASCII, at most 255 characters.

    What is visible stays as it is, all else is percent-encoded, and what is too long then is a
    digest. Two keys are never the same header.
    """
    quoted = quote(key, safe=_VISIBLE, errors="surrogatepass")
    if 0 < len(quoted) <= _MAX_KEY_CHARACTERS:
        return quoted
    return f"blake2b%:{blake2b(key.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"
