"""The shapes of all frames, and the close codes."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

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
    "Fault",
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
