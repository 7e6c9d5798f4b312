"""The ways to give a daemon another configuration: when it starts, and while it runs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from itertools import groupby
from typing import Any

from tests.integration.standing import ADMIN, Standing

__all__ = ["WAYS", "Way", "by_op", "by_put", "by_reload", "by_signal", "setting", "toml"]

Way = Callable[[Standing, Mapping[str, Any]], Awaitable[None]]
"""Have a daemon go by these values, by "section.key"; back once it does."""


def setting(**values: Any) -> tuple[str, ...]:
    """Options that set keys, "__" in the place of the dot."""
    given = (f"{name.replace('__', '.')}={value}" for name, value in values.items())
    return tuple(word for each in given for word in ("--set", each))


def toml(values: Mapping[str, Any]) -> str:
    """The same as a file of configuration."""
    lines = []
    for section, keys in groupby(sorted(values), lambda name: name.partition(".")[0]):
        lines.append(f"[{section}]")
        lines += [f"{name.partition('.')[2]} = {_word(values[name])}" for name in keys]
    return "\n".join(lines) + "\n"


def _word(value: Any) -> str:
    return '"none"' if value is None else json.dumps(value)


async def by_signal(daemon: Standing, values: Mapping[str, Any]) -> None:
    """Another file, and SIGHUP."""
    daemon.configure(toml(values))
    await daemon.hang_up()


async def by_reload(daemon: Standing, values: Mapping[str, Any]) -> None:
    """Another file, and the monitor is asked to have it read."""
    daemon.configure(toml(values))
    answer = await daemon.ask("POST", "/reload", token=ADMIN)
    assert answer.status == 200, answer.body


async def by_put(daemon: Standing, values: Mapping[str, Any]) -> None:
    """The monitor is told the values."""
    answer = await daemon.ask("PUT", "/config", values, token=ADMIN)
    assert answer.status == 200, answer.body


async def by_op(daemon: Standing, values: Mapping[str, Any]) -> None:
    """A client tells the values."""
    async with daemon.peer() as peer:
        answer = await peer.ask(op="reconfigure", request_id="c", token=ADMIN, values=values)
    assert answer["ok"], answer


WAYS = {"signal": by_signal, "reload": by_reload, "put": by_put, "op": by_op}
"""By name."""
