"""
The provider over HTTP.

    POST /v1/chat    {"prompt": str, "delay_ms"?: int, "fail"?: 400 to 599}
                     Idempotency-Key: 1 to 255 visible ASCII characters (optional)
                     X-Deadline-Ms: how long the caller still waits (optional)
        200  {"text": str, "execution": int}; `Idempotent-Replayed: true` where it is kept from
             an earlier request of this key
        400  what was asked makes no sense
        422  the key was used with another prompt
        504  the work would take longer than the caller waits
        500  the execution could not be put on file
        the status in "fail", when the delay is over
    GET /health      {"ok": true, "requests": int, "executions": int, "running": int, "pid": int}

Only a 200 without `Idempotent-Replayed` is an execution. Errors are {"error": str}.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from harness.clock import now
from harness.http.messages import Header, Options, Request, Response
from harness.refdaemon.provider.work import Refused, Work, refuse_late, until

__all__ = ["Service"]

_MAX_DELAY_MS: Final = 600_000
_MAX_DEADLINE_DIGITS: Final = 12
_MAX_PROMPT_BYTES: Final = 16 << 20
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_REPLAYED: Final = ("Idempotent-Replayed", "true")


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request."""

    prompt: str
    delay_ms: Annotated[int, Meta(ge=0, le=_MAX_DELAY_MS)] | None = None
    fail: Annotated[int, Meta(ge=400, le=599)] | None = None


class Service:
    """
    Answers requests.

    Args:
        work: What works on the prompts.
        delay_ms: How long each takes where the request does not say.

    Attributes:
        options: What its server goes by.
    """

    options: Final = Options(
        name="provider",
        answer_timeout_s=_MAX_DELAY_MS / 1000 + 60,
        max_body_bytes=_MAX_PROMPT_BYTES,
        refuse_browsers=True,
        failed=lambda status, text: _error(status, text),
    )

    def __init__(self, work: Work, *, delay_ms: int) -> None:
        self._work = work
        self._delay_ms = delay_ms
        self._requests = 0

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        allowed = {"/v1/chat": ("POST",), "/health": ("GET", "HEAD")}.get(request.path)
        if allowed is None:
            return _error(404, f"nothing is at {request.path}; there are /v1/chat and /health")
        if request.method not in allowed:
            return _error(405, f"expected {allowed[0]}", ("Allow", ", ".join(allowed)))
        if request.path == "/health":
            return _json(200, self._health())
        self._requests += 1
        try:
            return await self._chat(request)
        except Refused as refused:
            return _error(refused.status, refused.text)

    def _health(self) -> dict[str, Any]:
        return {
            "ok": True,
            "requests": self._requests,
            "executions": self._work.executions,
            "running": self._work.running,
            "pid": os.getpid(),
        }

    async def _chat(self, request: Request) -> Response:
        try:
            ask = msgspec.json.decode(request.body, type=Ask)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            raise Refused(400, f"the body is not what is expected: {wrong}") from None
        key, deadline_ms = _key_of(request), _deadline_of(request)
        delay_ms = self._delay_ms if ask.delay_ms is None else ask.delay_ms
        if ask.fail is not None:
            refuse_late(delay_ms / 1000, deadline_ms)
            await until(now() + delay_ms / 1000)
            raise Refused(ask.fail, "failed, as it was asked to")
        try:
            done, replayed = await self._work.on(
                ask.prompt, key=key, delay_ms=delay_ms, deadline_ms=deadline_ms
            )
        except OSError as error:
            raise Refused(500, f"the execution is not on file: {error.strerror}") from None
        return _json(200, done, *([_REPLAYED] if replayed else []))


def _key_of(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise Refused(400, "Idempotency-Key: expected 1 to 255 visible ASCII characters")
    return key


def _deadline_of(request: Request) -> int | None:
    text = request.headers.get("x-deadline-ms")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_DEADLINE_DIGITS:
        raise Refused(400, "X-Deadline-Ms: expected milliseconds, a whole number")
    return int(text)


def _json(status: int, value: Any, *headers: Header) -> Response:
    return Response(status, msgspec.json.encode(value) + b"\n", "application/json", headers)


def _error(status: int, text: str, *headers: Header) -> Response:
    return _json(status, {"error": text}, *headers)
