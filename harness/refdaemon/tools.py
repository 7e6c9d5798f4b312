"""
The tools: what each takes, does and says.

A plain tool runs at once, inside the read that brought the call. A coroutine tool
gets a task, so that it delays nobody. Either returns a `Result`; whoever runs it
writes the effect and the answer. `sleep` therefore has its effect when it is over,
not when it begins: one that was cancelled did nothing, and its log says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from harness.clock import now

__all__ = ["Report", "Result", "Tool", "Tools"]

Report = Callable[[float, float, str], None]
"""Says how far a tool is: progress, total, message."""

_MAX_SLEEP_MS = 600_000
_MAX_STEPS = 1_000
_MAX_STEP = 1_000_000


class Result(msgspec.Struct, frozen=True):
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


class _Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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
    """

    name: str
    description: str
    arguments: type[_Arguments]
    plain: Callable[[Any], Result] | None = None
    coroutine: Callable[[Any, Report], Awaitable[Result]] | None = None


class Tools:
    """The tools of one daemon, and what they remember."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}
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
                coroutine=_sleep,
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
        )
        self.by_name = {tool.name: tool for tool in tools}

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


async def _sleep(arguments: Sleep, report: Report) -> Result:
    began = now()
    for step in range(1, arguments.steps + 1):
        due = began + arguments.ms / 1000 * step / arguments.steps
        # uvloop's timers may fire up to a millisecond early.
        while (left := due - now()) > 0:
            await asyncio.sleep(left)
        if step < arguments.steps:
            report(step, arguments.steps, f"step {step} of {arguments.steps}")
    return Result(f"slept {arguments.ms} ms")


def _schema(arguments: type[_Arguments]) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments, without references."""
    _, components = msgspec.json.schema_components([arguments])
    schema: dict[str, Any] = components[arguments.__name__]
    # They name the struct, which is nobody's business outside.
    schema.pop("title", None)
    schema.pop("description", None)
    return schema
