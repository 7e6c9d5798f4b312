"""
The tools: what each takes, does and says.

A plain tool runs at once, inside the read that brought the call. A coroutine tool
gets a task, so that it delays nobody. Either returns a `Result`; whoever runs it
writes the effect and the answer. `sleep` therefore has its effect when it is over,
not when it begins: one that was cancelled did nothing, and its log says so. What `chat` had its
provider do before it was cancelled stands in the provider's log.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Annotated, Any, Final, Protocol

import msgspec
from msgspec import Meta

from harness.clock import now

__all__ = ["Ask", "Context", "Result", "Tool", "ToolFailed", "Tools"]

_MAX_SLEEP_MS: Final = 600_000
_MAX_STEPS: Final = 1_000
_MAX_STEP: Final = 1_000_000
_MAX_BLOB_BYTES: Final = 16 * 1024 * 1024
_MAX_CHUNKS: Final = 100_000
_MAX_CHUNK_BYTES: Final = 64 * 1024
_PATTERN: Final = "0123456789abcdef"


class Context(Protocol):
    """What a coroutine tool may do beside its work."""

    @property
    def key(self) -> str:
        """Names the intention, for whoever the tool asks."""

    def left_s(self) -> float:
        """How long somebody still waits for it, in seconds."""

    def report(self, progress: float, total: float | None, message: str) -> None:
        """Say how far it is."""

    async def chunk(self, index: int, text: str) -> None:
        """Send a part of its output; a peer that reads slowly makes it wait."""


class ToolFailed(Exception):
    """
    A tool could not do its work, and may be asked again with the same key.

    Attributes:
        code: The error code its caller gets.
        details: What goes with it.
    """

    def __init__(self, code: str, message: str, details: dict[str, Any]) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


Ask = Callable[[str, Context, int], Awaitable[str]]
"""Asks the provider: prompt, context, and how long it shall take in milliseconds."""


class Result(msgspec.Struct, frozen=True, gc=False):
    """
    What a tool made of its arguments.

    Attributes:
        text: Its output; the error's message if it failed.
        value: A number for the effect log.
        failed: Whether the tool ran and failed.
    """

    text: str
    value: int | None = None
    failed: bool = False


class _Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    pass


class Echo(_Arguments, frozen=True):
    """Arguments of `echo`."""

    text: Annotated[str, Meta(description="What to say back.")]


class Sleep(_Arguments, frozen=True):
    """Arguments of `sleep`."""

    ms: Annotated[int, Meta(ge=0, le=_MAX_SLEEP_MS, description="Milliseconds in all.")]
    steps: Annotated[
        int, Meta(ge=1, le=_MAX_STEPS, description="Progress is reported after each but the last.")
    ] = 1


class Count(_Arguments, frozen=True):
    """Arguments of `counter`."""

    name: Annotated[str, Meta(min_length=1, max_length=200, description="Which counter.")]
    by: Annotated[int, Meta(ge=-_MAX_STEP, le=_MAX_STEP, description="What to add.")] = 1


class Fail(_Arguments, frozen=True):
    """Arguments of `fail`."""

    message: Annotated[str, Meta(description="What the error says.")]


class Blob(_Arguments, frozen=True):
    """Arguments of `blob`."""

    size_bytes: Annotated[int, Meta(ge=0, le=_MAX_BLOB_BYTES, description="How long it is.")]


class Stream(_Arguments, frozen=True):
    """Arguments of `stream`."""

    chunks: Annotated[int, Meta(ge=0, le=_MAX_CHUNKS, description="How many.")]
    size_bytes: Annotated[
        int, Meta(ge=1, le=_MAX_CHUNK_BYTES, description="How long each of them is.")
    ] = 100
    every_ms: Annotated[
        int, Meta(ge=0, le=_MAX_SLEEP_MS, description="Milliseconds between two.")
    ] = 0


class Chat(_Arguments, frozen=True):
    """Arguments of `chat`."""

    prompt: Annotated[str, Meta(min_length=1, max_length=100_000, description="What to ask.")]
    delay_ms: Annotated[
        int, Meta(ge=0, le=_MAX_SLEEP_MS, description="How long the provider shall take.")
    ] = 0


@dataclass(frozen=True, kw_only=True)
class Tool:
    """
    One tool. Exactly one of `plain` and `coroutine` is there.

    Attributes:
        name: What calls name it by.
        description: What it does and what it leaves behind, for the caller.
        arguments: The struct its arguments must fit.
        plain: Runs it at once.
        coroutine: Runs it in a task, which may be cancelled.
        decode: Reads its arguments; raises what msgspec raises.
    """

    name: str
    description: str
    arguments: type[_Arguments]
    plain: Callable[[Any], Result] | None = None
    coroutine: Callable[[Any, Context], Awaitable[Result]] | None = None
    decode: Callable[[msgspec.Raw], Any] = field(init=False)

    def __post_init__(self) -> None:
        decode = msgspec.json.Decoder(self.arguments).decode
        takes_whole_numbers = any(
            rules["type"] == "integer" for rules in _schema(self.arguments)["properties"].values()
        )
        if takes_whole_numbers:
            decode = partial(_decode_whole_numbers, decode, self.arguments)
        object.__setattr__(self, "decode", decode)


class Tools:
    """
    The tools of one daemon, and what they remember.

    Args:
        ask: Asks the provider; None: there is none, and no tool that needs it.
        defects: Those of the daemon.
    """

    def __init__(self, ask: Ask | None = None, *, defects: frozenset[str] = frozenset()) -> None:
        self._totals: dict[str, int] = {}
        wait = _block_until if "blocking-tool" in defects else _until
        tools = (
            Tool(
                name="echo",
                description="Say the text back.",
                arguments=Echo,
                plain=_echo,
            ),
            Tool(
                name="sleep",
                description="Do nothing for a while, then say so. Its effect comes at the end.",
                arguments=Sleep,
                coroutine=partial(_sleep, wait=wait),
            ),
            Tool(
                name="counter",
                description="Add to a named counter and return its total.",
                arguments=Count,
                plain=self._count,
            ),
            Tool(
                name="fail",
                description="Have an effect, then fail.",
                arguments=Fail,
                plain=_fail,
            ),
            Tool(
                name="blob",
                description="Say something of that length.",
                arguments=Blob,
                plain=_blob,
            ),
            Tool(
                name="stream",
                description="Say numbered chunks, then how many they were.",
                arguments=Stream,
                coroutine=_stream,
            ),
        )
        self.by_name = {tool.name: tool for tool in tools}
        if ask is not None:
            self.by_name["chat"] = Tool(
                name="chat",
                description="Ask the provider; what it did stands in its own log.",
                arguments=Chat,
                coroutine=_Chatting(ask),
            )

    def remembered(self) -> dict[str, Any]:
        """What calls have left behind, as the health report shows it: of one size always."""
        totals = self._totals
        return {"counter": {"names": len(totals), "sum": sum(totals.values())}}

    @cache  # noqa: B019 - one daemon, one object, for the life of the process
    def listing(self) -> list[dict[str, Any]]:
        """Every tool as `list_tools` tells it."""
        return [
            {
                "name": tool.name,
                "description": tool.description,
                "inputSchema": _schema(tool.arguments),
            }
            for tool in self.by_name.values()
        ]

    def _count(self, arguments: Count) -> Result:
        total = self._totals.get(arguments.name, 0) + arguments.by
        self._totals[arguments.name] = total
        return Result(str(total), value=total)


def _echo(arguments: Echo) -> Result:
    return Result(arguments.text)


def _fail(arguments: Fail) -> Result:
    return Result(arguments.message, failed=True)


_Wait = Callable[[float], Awaitable[None]]


async def _sleep(arguments: Sleep, context: Context, *, wait: _Wait) -> Result:
    began = now()
    for step in range(1, arguments.steps + 1):
        due = began + arguments.ms / 1000 * step / arguments.steps
        await wait(due)
        if step < arguments.steps:
            context.report(step, arguments.steps, f"step {step} of {arguments.steps}")
    return Result(f"slept {arguments.ms} ms")


async def _until(due_s: float) -> None:
    # uvloop's timers may fire up to a millisecond early.
    while (left_s := due_s - now()) > 0:
        await asyncio.sleep(left_s)


async def _block_until(due_s: float) -> None:
    threading.Event().wait(due_s - now())


def _blob(arguments: Blob) -> Result:
    size = arguments.size_bytes
    return Result((_PATTERN * (size // len(_PATTERN) + 1))[:size])


async def _stream(arguments: Stream, context: Context) -> Result:
    began = now()
    for index in range(arguments.chunks):
        await _until(began + index * arguments.every_ms / 1000)
        number = f"{index:08d} "
        filling = _PATTERN * (arguments.size_bytes // len(_PATTERN) + 1)
        await context.chunk(index, (number + filling)[: arguments.size_bytes])
    return Result(f"{arguments.chunks} chunks", value=arguments.chunks)


@dataclass(frozen=True)
class _Chatting:
    ask: Ask

    async def __call__(self, arguments: Chat, context: Context) -> Result:
        return Result(await self.ask(arguments.prompt, context, arguments.delay_ms))


def _decode_whole_numbers(
    decode: Callable[[msgspec.Raw], Any], arguments: type[_Arguments], raw: msgspec.Raw
) -> Any:
    """As `decode`, for which 1.0 is no whole number; for JSON Schema it is."""
    try:
        return decode(raw)
    except msgspec.ValidationError as error:
        try:
            values = msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            raise error from None
        if not isinstance(values, dict):
            raise
        whole = {name: _whole(value) for name, value in values.items()}
        return msgspec.convert(whole, arguments)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _schema(arguments: type[_Arguments]) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments, without references."""
    _, components = msgspec.json.schema_components([arguments])
    schema: dict[str, Any] = components[arguments.__name__]
    # They name the struct, which is nobody's business outside.
    schema.pop("title", None)
    schema.pop("description", None)
    return schema
