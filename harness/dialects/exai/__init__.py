"""
The op dialect: one JSON object a text frame, its meaning in `op`.

Both ends use this file: the reference daemon reads `Request`s and writes
`Reply`s, the client the other way round. It knows no socket and no clock.

The names are those of the second protocol generation of the daemon this project
grew from (see docs/protocol.md); its faults are not kept: every error frame has
an `op` and the `request_id` it answers, and a call must bring an id of its own.
"""

from __future__ import annotations

from harness.dialects.exai.dialect import Exai
from harness.dialects.exai.frames import (
    CLOSE_GOING_AWAY,
    CLOSE_HELLO_TIMEOUT,
    CLOSE_INVALID_HELLO,
    CLOSE_MISSING_HELLO,
    CLOSE_OVERLOADED,
    CLOSE_PING_TIMEOUT,
    CLOSE_REPLACED,
    CLOSE_TOO_BIG,
    CLOSE_UNAUTHORIZED,
    CallTool,
    CallToolRes,
    Cancel,
    Cancelled,
    Error,
    Fault,
    Health,
    HealthRes,
    Hello,
    HelloAck,
    ListTools,
    ListToolsRes,
    Output,
    Ping,
    Pong,
    ProgressFrame,
    Reconfigure,
    Reconfigured,
    Reply,
    Request,
    StreamChunk,
)
from harness.dialects.exai.reading import (
    FrameError,
    decode_request,
    encode,
    peek,
    tool_name,
    usable_session_id,
)

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
