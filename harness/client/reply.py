"""What a call brings back, and the two ops that every call leaves in the history."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from harness.clock import now_ns
from harness.dialects.base import Answer, Failure
from harness.history import OpType, Recorder

__all__ = ["Recorded", "Reply", "readable", "reply_of", "shortened"]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """
    An answer: the tool ran.

    Attributes:
        request_id: Which call.
        key: The idempotency key it carried; the request id where it was given none.
        outputs: What the tool put out, as the dialect reads it.
        failure: The error, where the tool failed inside; None where it did not.
        elapsed_ms: Milliseconds from the intended start until the answer was read.
        received_by_daemon_ms: From the intended start until the daemon had read the call; None
            where the daemon does not say, or reads another clock than we do.
        answered_by_daemon_ms: The same until it was about to answer.
        queue_ms: How long the call waited in the daemon; None where it does not say.
        processing_ms: How long its tool worked; None where the daemon does not say.
        replayed: Whether the daemon says that the tool ran for an earlier attempt.
        progress: How many progress frames came before the answer.
    """

    request_id: str
    key: str
    outputs: tuple[Any, ...]
    failure: Failure | None
    elapsed_ms: float
    received_by_daemon_ms: float | None = None
    answered_by_daemon_ms: float | None = None
    queue_ms: float | None = None
    processing_ms: float | None = None
    replayed: bool = False
    progress: int = 0

    @property
    def text(self) -> str:
        """The first output's text, "" where there is none, or it is bytes."""
        first = self.outputs[0] if self.outputs else ""
        return first if isinstance(first, str) else str(getattr(first, "text", ""))


def reply_of(answer: Answer, *, key: str, start_ns: int, same_clock: bool, progress: int) -> Reply:
    """
    Make a reply of an answer that tells of a tool that ran.

    Args:
        answer: What the daemon sent; it names a request.
        key: The call's key.
        start_ns: Its intended start.
        same_clock: Whether the daemon's stamps are read from our clock.
        progress: How many progress frames came.
    """

    def since(stamp_ns: int | None) -> float | None:
        return (stamp_ns - start_ns) / 1e6 if same_clock and stamp_ns is not None else None

    def between(earlier_ns: int | None, later_ns: int | None) -> float | None:
        # A difference on one clock, whichever that is.
        return None if earlier_ns is None or later_ns is None else (later_ns - earlier_ns) / 1e6

    value = () if answer.value is None else answer.value
    return Reply(
        request_id=answer.request_id or "",
        key=key,
        # One that is no list is one output: a text is not its letters.
        outputs=tuple(value) if isinstance(value, list | tuple) else (value,),
        failure=answer.failure,
        elapsed_ms=(now_ns() - start_ns) / 1e6,
        received_by_daemon_ms=since(answer.received_ns),
        answered_by_daemon_ms=since(answer.answered_ns),
        queue_ms=between(answer.received_ns, answer.began_ns),
        processing_ms=between(answer.began_ns, answer.answered_ns),
        replayed=answer.replayed,
        progress=progress,
    )


def readable(message: bytes | str) -> str:
    """A message as text; what is not UTF-8 is escaped."""
    return message if isinstance(message, str) else message.decode("utf-8", "backslashreplace")


def shortened(text: str, *, room: int) -> str:
    """The text, cut where it has more than `room` characters."""
    return text if len(text) <= room else f"{text[: room - 1]}…"


class Recorded:
    """
    One thing we do, in the history: an `invoke`, and exactly one end, whatever happens.

    Leaving without `end` (the caller was cancelled) ends it as `info`: nobody will ever know.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        process: str,
        f: str,
        value: Mapping[str, Any],
        intended_ns: int | None = None,
        key: str | None = None,
        attempt: int | None = None,
    ) -> None:
        self._recorder = recorder
        self._process = process
        self._f = f
        self._value = value
        self._start_ns = now_ns() if intended_ns is None else intended_ns
        self._intended_ns = intended_ns
        self._key = key
        self._attempt = attempt
        self._ended = False

    def __enter__(self) -> Self:
        self._record("invoke", self._value, None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._ended:
            # GeneratorExit: the loop went away under a call that still waited.
            left = kind is None or issubclass(kind, asyncio.CancelledError | GeneratorExit)
            self.end("info", {}, error="cancelled" if left else str(error))

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since the intended start."""
        return (now_ns() - self._start_ns) / 1e6

    def end(self, type: OpType, value: Mapping[str, Any], *, error: str | None = None) -> None:
        """Say how it ended."""
        self._ended = True
        same = {k: v for k, v in self._value.items() if k == "request_id"}
        elapsed = {"elapsed_ms": round(self.elapsed_ms, 3)}
        self._record(type, {**same, **elapsed, **value}, error)

    def end_with(self, reply: Reply) -> None:
        """Say that an answer came; a tool that failed inside is an answer too."""
        failure = reply.failure
        outputs = [readable(each) if isinstance(each, bytes) else each for each in reply.outputs]
        value: dict[str, Any] = {"elapsed_ms": round(reply.elapsed_ms, 3), "outputs": outputs}
        if failure is not None:
            value["how"] = failure.message
        self.end("ok", value, error=None if failure is None else failure.code)

    def _record(self, type: OpType, value: Any, error: str | None) -> None:
        self._recorder.record(
            process=self._process,
            type=type,
            f=self._f,
            value=value,
            error=error,
            intended_ns=self._intended_ns,
            key=self._key,
            attempt=self._attempt,
        )
