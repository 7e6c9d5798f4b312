"""
The op dialect: one JSON object a text frame, its meaning in `op`.

Both ends use this file: the reference daemon reads `Request`s and writes
`Reply`s, the client the other way round. It knows no socket and no clock.

The names are those of the second protocol generation of the daemon this project
grew from (see docs/protocol.md); its faults are not kept: every error frame has
an `op` and the `request_id` it answers, and a call must bring an id of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from harness.dialects.base import (
    Answer,
    Dialect,
    Failure,
    Incoming,
    Junk,
    Kind,
    Progress,
    Refusal,
    Welcome,
)
from harness.errors import InvalidValue

__all__ = [
    "CLOSE_GOING_AWAY",
    "CLOSE_HELLO_TIMEOUT",
    "CLOSE_INVALID_HELLO",
    "CLOSE_MISSING_HELLO",
    "CLOSE_OVERLOADED",
    "CLOSE_PING_TIMEOUT",
    "CLOSE_REPLACED",
    "CLOSE_TOO_BIG",
    "CLOSE_UNAUTHORIZED",
    "CallTool",
    "CallToolRes",
    "Cancel",
    "Cancelled",
    "Error",
    "Exai",
    "Fault",
    "FrameError",
    "Health",
    "HealthRes",
    "Hello",
    "HelloAck",
    "ListTools",
    "ListToolsRes",
    "Output",
    "Ping",
    "Pong",
    "ProgressFrame",
    "Reconfigure",
    "Reconfigured",
    "Reply",
    "Request",
    "StreamChunk",
    "decode_request",
    "encode",
    "peek",
    "tool_name",
    "usable_session_id",
]

CLOSE_GOING_AWAY: Final = 1001
CLOSE_OVERLOADED: Final = 1008
CLOSE_TOO_BIG: Final = 1009
CLOSE_PING_TIMEOUT: Final = 1011
CLOSE_INVALID_HELLO: Final = 4000
CLOSE_MISSING_HELLO: Final = 4001
CLOSE_HELLO_TIMEOUT: Final = 4002
CLOSE_UNAUTHORIZED: Final = 4003
CLOSE_REPLACED: Final = 4004


_SPAN: Final = msgspec.Meta(ge=1, le=86_400_000)
_Milliseconds = Annotated[int, _SPAN] | Annotated[float, _SPAN]


class _Request(msgspec.Struct, frozen=True, tag_field="op", omit_defaults=True, gc=False):
    """Holds no cycle, so the collector need not look at it."""


class Hello(_Request, frozen=True, tag="hello"):
    """Who is there. The token counts only where the daemon was given one."""

    token: str | None = None
    session_id: str | None = None


class CallTool(_Request, frozen=True, tag="call_tool"):
    """
    Run a tool.

    `key` names the intention: a retry of the same call carries the same key under
    another request id. `timeout_ms` is how long the caller will wait, whole or not, since JSON has
    one kind of number. `arguments` is the JSON as it came: its tool knows what it must be.
    """

    request_id: str
    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")
    key: str | None = None
    timeout_ms: _Milliseconds | None = None


class ListTools(_Request, frozen=True, tag="list_tools"):
    """Which tools are there?"""

    request_id: str | None = None


class Ping(_Request, frozen=True, tag="ping"):
    """Are you there? Answered beside running calls."""

    request_id: str | None = None


class Health(_Request, frozen=True, tag="health"):
    """How are you?"""

    request_id: str | None = None


class Cancel(_Request, frozen=True, tag="cancel"):
    """End the running call of that id."""

    request_id: str


class Reconfigure(_Request, frozen=True, tag="reconfigure"):
    """
    Change the configuration, by "section.key".

    The token is the one for that; a hello's does not do.
    """

    request_id: str
    values: dict[str, str | int | float | bool | None]
    token: str | None = None


Request = Hello | CallTool | ListTools | Ping | Health | Cancel | Reconfigure


class _Reply(msgspec.Struct, frozen=True, tag_field="op", omit_defaults=True, gc=False):
    """As above."""


class Fault(msgspec.Struct, frozen=True, gc=False):
    """The `error` of a frame; all three are always there."""

    code: str
    message: str
    details: dict[str, Any] = {}


class HelloAck(_Reply, frozen=True, tag="hello_ack"):
    """
    Taken in or not; `error` is one word.

    `resumed` says whether the daemon remembers that session, and so its keys.
    """

    ok: bool
    session_id: str | None = None
    resumed: bool | None = None
    promises: list[str] | None = None
    clock: str | None = None
    error: str | None = None


class Output(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One part of a tool's result."""

    type: Literal["text"]
    text: str
    metadata: dict[str, Any] = {}


class CallToolRes(_Reply, frozen=True, tag="call_tool_res"):
    """
    How a call ended. Stamps are nanoseconds of the clock named in `hello_ack`.

    From `received_ns` to `began_ns` the call waited, from there to `answered_ns` its tool ran; one
    that was refused never began. `replayed`: it ran for another request of this key.
    """

    request_id: str | None
    ok: bool
    outputs: list[Output] = []
    error: Fault | None = None
    received_ns: int | None = None
    began_ns: int | None = None
    answered_ns: int | None = None
    replayed: bool = False


class ListToolsRes(_Reply, frozen=True, tag="list_tools_res"):
    """The tools, each with name, description and inputSchema."""

    request_id: str | None
    tools: list[dict[str, Any]]


class Pong(_Reply, frozen=True, tag="pong"):
    """Here. `timestamp` is seconds since 1970."""

    request_id: str | None
    timestamp: float


class HealthRes(_Reply, frozen=True, tag="health_res"):
    """Connections, sessions, running calls and counters."""

    request_id: str | None
    ok: bool
    health: dict[str, Any]


class Cancelled(_Reply, frozen=True, tag="cancelled"):
    """Whether a call of that id was running, and now is not."""

    request_id: str | None
    ok: bool
    error: Fault | None = None


class ProgressFrame(_Reply, frozen=True, tag="progress"):
    """A call is still running."""

    request_id: str
    progress: float
    total: float | None = None
    message: str = ""


class StreamChunk(_Reply, frozen=True, tag="stream_chunk"):
    """A part of what a call puts out, in order; `index` counts from 0."""

    request_id: str
    index: int
    chunk: str


class Reconfigured(_Reply, frozen=True, tag="reconfigured"):
    """What changed at once, and what waits for the next start: "section.key" to its value."""

    request_id: str | None
    ok: bool
    changed: dict[str, Any] = {}
    pending: dict[str, Any] = {}
    error: Fault | None = None


class Error(_Reply, frozen=True, tag="error"):
    """A frame that could not be understood. The id is null where it had none to read."""

    request_id: str | None
    error: Fault


Reply = (
    HelloAck
    | CallToolRes
    | ListToolsRes
    | Pong
    | HealthRes
    | Cancelled
    | ProgressFrame
    | StreamChunk
    | Reconfigured
    | Error
)


class FrameError(Exception):
    """
    A frame that is no request.

    Attributes:
        kind: "json" (no JSON object), "op" (no op we know) or "shape" (wrong types).
        op: The op it named, if any.
        request_id: The id it named, if any: the reply must carry it.
        message: What was found and expected, in one sentence.
    """

    def __init__(
        self,
        kind: Literal["json", "op", "shape"],
        message: str,
        *,
        op: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.op = op
        self.request_id = request_id


encode = msgspec.json.Encoder().encode
_decode_request: Callable[[bytes | str], Request] = msgspec.json.Decoder(Request).decode
_decode_reply: Callable[[bytes | str], Reply] = msgspec.json.Decoder(Reply).decode
_OPS: Final = sorted(str(shape.__struct_config__.tag) for shape in get_args(Request))


_READ_AGAIN_BYTES: Final = 65_536
# The last: JSON nested deeper than the decoder goes, which any peer can send.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_request(frame: bytes | str) -> Request:
    """
    Read a client's frame.

    Raises:
        FrameError: If it is no JSON object, names no known op, or has wrong types.
    """
    try:
        return _decode_request(frame)
    except _UNREADABLE as error:
        raise _frame_error(frame, str(error)) from None


_PEEKED: Final = 4096


def peek(frame: bytes | str) -> dict[str, str]:
    """
    The texts at the beginning of a JSON object that is too large to be read.

    Its members that are texts, up to the first that is none, or that is not whole within 4 KiB.
    What it says is so; what it does not say may be there all the same.
    """
    head = frame[:_PEEKED]
    text = head if isinstance(head, str) else head.decode("utf-8", "ignore")
    found: dict[str, str] = {}
    at = _SPACE.match(text, 0).end()  # type: ignore[union-attr]
    mark = "{"
    try:
        while text[at] == mark:
            at = text.index('"', at) + 1 if _NEXT.match(text, at) else len(text)
            name, at = scanstring(text, at)
            colon = _COLON.match(text, at)
            if colon is None:
                break
            found[name], at = scanstring(text, colon.end())
            at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
            mark = ","
    except (ValueError, IndexError):
        pass
    return found


_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NEXT: Final = re.compile(r'[{,][ \t\r\n]*"')
_COLON: Final = re.compile(r'[ \t\r\n]*:[ \t\r\n]*"')


def _frame_error(frame: bytes | str, message: str) -> FrameError:
    """Find out how much of a bad frame can be read, so that the reply can name it."""
    try:
        value = msgspec.json.decode(frame)
    except _UNREADABLE:
        value = _read_again(frame)
        if value is None:
            return FrameError("json", f"expected a JSON object, found no JSON: {message}")
        message = f"a text that is no Unicode, or a number out of range: {message}"
    if not isinstance(value, dict):
        return FrameError("json", f"expected a JSON object, found {type(value).__name__}")
    request_id = value.get("request_id")
    request_id = request_id if isinstance(request_id, str) else None
    op = value.get("op")
    if op not in _OPS:
        shown = "none" if op is None else msgspec.json.encode(op).decode()[:80]
        message = f"expected op to be one of {', '.join(_OPS)}; found {shown}"
        return FrameError("op", message, request_id=request_id)
    return FrameError("shape", message, op=op, request_id=request_id)


def _read_again(frame: bytes | str) -> dict[str, str] | None:
    """
    Op and id of a frame that is JSON, and that our decoder does not take all the same.

    Half a surrogate pair can be written in JSON, and JavaScript does; so can 1e400.
    """
    if len(frame) > _READ_AGAIN_BYTES:
        return None
    try:
        value = json.loads(frame, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    found = {name: value.get(name) for name in ("op", "request_id")}
    return {name: text for name, text in found.items() if isinstance(text, str) and _is_text(text)}


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_SESSION_ID: Final = re.compile(r"[A-Za-z0-9_-]{3,64}")
_SUFFIXES: Final = ("_EXAI-WS", "-EXAI-WS", "_EXAI_WS", "-EXAI_WS")


def usable_session_id(text: str | None) -> bool:
    """Whether a session id may be taken as given: 3 to 64 letters, digits, "-" or "_"."""
    return text is not None and _SESSION_ID.fullmatch(text) is not None and text.strip("-_") != ""


def tool_name(name: str) -> str:
    """A tool's name without the one suffix that older clients append."""
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


_QUESTIONS: Final[dict[Kind, Any]] = {
    "tools": ListTools,
    "health": Health,
    "pong": Ping,
    "cancel": Cancel,
}

# Counters and times only grow; these come back to what they were, where a test leaves nothing.
_LASTING: Final = (
    "connections",
    "sessions",
    "running_calls",
    "draining",
    "pid",
    "tool_state",
    "open_breakers",
    "configuration",
)


class Exai(Dialect):
    """The op dialect, seen from the client."""

    name = "exai"
    questions = frozenset(_QUESTIONS)

    def hello(self, *, token: str | None, session_id: str | None) -> bytes:
        """The first frame of a connection."""
        return encode(Hello(token=token, session_id=session_id))

    def call(
        self, *, request_id: str, tool: str | bytes, arguments: dict[str, Any], key: str | None
    ) -> bytes:
        """Run a tool."""
        if isinstance(tool, bytes):
            raise InvalidValue(
                f'dialect "{self.name}" calls tools by name; expected text, found bytes',
                [("next", "give the tool's name, and what it is to work on as arguments")],
            )
        raw = msgspec.Raw(encode(arguments))
        return encode(CallTool(request_id=request_id, name=tool, arguments=raw, key=key))

    def ask(self, kind: Kind, request_id: str) -> bytes:
        """Ask for tools, health or a pong, or cancel the call of that id."""
        return encode(_QUESTIONS[kind](request_id))

    def receive(self, frame: bytes | str) -> Incoming:
        """What a frame of the daemon means. Never raises."""
        try:
            reply = _decode_reply(frame)
        except _UNREADABLE as error:
            return Junk(why=str(error))
        return _meaning(reply)

    def fingerprint(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Who is connected, what runs, which process it is, and what its tools remember."""
        return {name: report[name] for name in _LASTING if name in report}


def _failure(fault: Fault | None, *, ok: bool = True) -> Failure | None:
    if fault is None:
        # "Not ok" without an error proves nothing, least of all that the tool ran.
        return None if ok else Failure(code="", message="the daemon gave no reason")
    return Failure(code=fault.code, message=fault.message, details=fault.details)


def _meaning(reply: Reply) -> Incoming:
    match reply:
        case HelloAck(ok=True):
            return Welcome(
                session_id=reply.session_id or "",
                promises=tuple(reply.promises or ()),
                clock=reply.clock or "",
                resumed=reply.resumed,
            )
        case HelloAck():
            return Refusal(reason=reply.error or "refused without a word")
        case CallToolRes():
            return Answer(
                kind="call",
                request_id=reply.request_id,
                value=reply.outputs,
                failure=_failure(reply.error, ok=reply.ok),
                received_ns=reply.received_ns,
                began_ns=reply.began_ns,
                answered_ns=reply.answered_ns,
                replayed=reply.replayed,
            )
        case ListToolsRes():
            return Answer(kind="tools", request_id=reply.request_id, value=reply.tools)
        case Pong():
            return Answer(kind="pong", request_id=reply.request_id, value=reply.timestamp)
        case HealthRes():
            return Answer(kind="health", request_id=reply.request_id, value=reply.health)
        case Cancelled():
            return Answer(
                kind="cancel",
                request_id=reply.request_id,
                value=reply.ok,
                failure=_failure(reply.error),
            )
        case ProgressFrame():
            return Progress(
                request_id=reply.request_id,
                progress=reply.progress,
                total=reply.total,
                message=reply.message,
            )
        case StreamChunk():
            return Progress(
                request_id=reply.request_id,
                progress=reply.index + 1,
                total=None,
                message=reply.chunk,
            )
        case Reconfigured():
            # No question of ours; whoever asks it speaks the dialect by hand.
            return Answer(
                kind=None, request_id=reply.request_id, failure=_failure(reply.error, ok=reply.ok)
            )
        case Error():
            # An error frame may answer a request of any kind; the id tells which.
            return Answer(kind=None, request_id=reply.request_id, failure=_failure(reply.error))
