"""
Shapes that several programs write, one JSON object a line each.

The daemon writes effects, its provider executions, the proxy events; the harness reads them
all. Every record carries the name of the clock its stamp was read from.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

__all__ = ["Effect", "Execution", "ProxyEvent", "read_lines", "write_line"]


class Effect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    What one execution of a tool did, on file before its answer leaves.

    Attributes:
        sequence: Counts the effects of one daemon process from 1.
        time_ns: Monotonic nanoseconds of `clock`.
        tool: The tool's name.
        key: The caller's idempotency key; the request id where it gave none.
        request_id: Which call.
        session: Whose call.
        pid: The daemon process that ran it.
        digest: BLAKE2b of the arguments' JSON, 8 bytes as 16 hex digits.
        value: What the tool made of it, where that is worth a record (a counter's total).
    """

    sequence: int
    time_ns: int
    clock: str
    tool: str
    key: str
    request_id: str
    session: str
    pid: int
    digest: str
    value: int | None = None


class Execution(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    One prompt that the provider worked on, on file before its answer leaves.

    Attributes:
        sequence: Counts the executions of one provider process from 1.
        time_ns: Monotonic nanoseconds of `clock`.
        digest: BLAKE2b of the prompt, 8 bytes as 16 hex digits.
        pid: The provider process that worked.
        key: The caller's idempotency key as it came; None where it gave none.
        deadline_ms: The milliseconds that the caller would wait; None where it did not say.
    """

    sequence: int
    time_ns: int
    clock: str
    digest: str
    pid: int
    key: str | None = None
    deadline_ms: int | None = None


class ProxyEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One thing that happened inside the proxy.

    Attributes:
        seq: Counts the events of one server from 1, without gaps.
        time_ns: Monotonic nanoseconds of `clock`.
        kind: `opened`, `closed`, `unreachable` (the upstream), `enabled`, `disabled`, `added`,
            `changed`, `removed`, `passed` (a chunk, at a tap), `delayed`, `dropped`,
            `cut`, `reset`, or `lost`: that many events were overwritten before anybody asked for
            them.
        proxy: The proxy's name; absent in `lost`.
        connection: Counts the connections of one proxy from 1.
        stream: "upstream" or "downstream".
        toxic: Its name.
        bytes: How many bytes it concerned; for `lost`, how many events are missing.
        detail: What else a person would want: how a connection ended, a toxic's attributes.
    """

    seq: int
    time_ns: int
    clock: str
    kind: str
    proxy: str | None = None
    connection: int | None = None
    stream: str | None = None
    toxic: str | None = None
    bytes: int | None = None
    detail: str | None = None


_encode = msgspec.json.Encoder().encode


def write_line(record: Any) -> bytes:
    """A record as one line of JSON, newline included."""
    return _encode(record) + b"\n"


def read_lines(data: bytes, shape: type[T]) -> tuple[list[T], bytes]:
    """
    Read records of one shape.

    Returns:
        The records, and the torn tail: what follows the last newline, b"" if nothing does.

    Raises:
        msgspec.ValidationError: If a whole line is not of that shape.
    """
    *lines, tail = data.split(b"\n")
    decoder = msgspec.json.Decoder(shape)
    return [decoder.decode(line) for line in lines if line], tail
