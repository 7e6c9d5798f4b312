"""A good reply of each kind, to be changed."""

from __future__ import annotations

import json
from typing import Any

from tests.held import Held

__all__ = ["FAULT", "GOOD", "HEALTH", "TOOL", "failed", "misfits", "reply"]

FAULT = {"code": "CANCELLED", "message": "ended", "details": {}}
HEALTH = {
    "connections": 1,
    "sessions": 1,
    "sessions_remembered": 1,
    "running_calls": 0,
    "uptime_s": 0.5,
    "pid": 7,
    "draining": False,
    "tool_state": {"counter": {"names": 1, "sum": -3}},
    "open_breakers": 0,
    "configuration": "0123456789ab",
    "counters": {"calls_executed": 1},
}
TOOL = {
    "name": "echo",
    "description": "Say it back.",
    "inputSchema": {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
        "additionalProperties": False,
    },
}
GOOD: dict[str, dict[str, Any]] = {
    "hello_ack": {"ok": True, "session_id": "abc", "resumed": False, "promises": [], "clock": "c"},
    "call_tool_res": {
        "request_id": "1",
        "ok": True,
        "outputs": [{"type": "text", "text": ""}],
        "received_ns": 1,
        "began_ns": 2,
        "answered_ns": 3,
    },
    "list_tools_res": {"request_id": None, "tools": [TOOL]},
    "pong": {"request_id": "1", "timestamp": 1.5},
    "health_res": {"request_id": "1", "ok": True, "health": HEALTH},
    "cancelled": {"request_id": "1", "ok": True},
    "progress": {"request_id": "1", "progress": 1, "total": 4, "message": "step 1 of 4"},
    "stream_chunk": {"request_id": "1", "index": 0, "chunk": "x"},
    "reconfigured": {"request_id": "1", "ok": True, "changed": {"server.drain_s": None}},
    "error": {"request_id": None, "error": {**FAULT, "code": "INVALID_REQUEST"}},
}
FAILED = {"request_id": "1", "ok": False, "received_ns": 1, "answered_ns": 3}


def reply(op: str, *without: str, **members: Any) -> bytes:
    """A good reply of that kind, changed."""
    rest = {name: value for name, value in GOOD[op].items() if name not in without}
    return json.dumps({"op": op, **rest, **members}).encode()


def failed(code: str, details: dict[str, Any], message: str = "why") -> bytes:
    """The answer to a call that failed."""
    fault = {"code": code, "message": message, "details": details}
    return json.dumps({"op": "call_tool_res", **FAILED, "error": fault}).encode()


def misfits(frame: bytes) -> list[str]:
    """What is said of a reply."""
    held = Held()
    held.reply(frame)
    return held.misfits
