"""What `assert client.ending == Ending(kind="reset")` says when it fails."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from harness.client.endings import Ending
from harness.client.reply import Reply
from harness.errors import HarnessError
from harness.faults.base import Fault
from harness.pytest_plugin.place import Place
from harness.records import Effect, ProxyEvent
from harness.report.failure import fault_lines, in_words, last_words

__all__ = ["compared"]

_OURS = (Ending, Reply, Fault, Effect, ProxyEvent)


def compared(left: object, right: object, place: Place | None) -> list[str] | None:
    """
    An explanation of `left == right`, None where neither is a value of ours.

    Args:
        left: What was found.
        right: What was expected.
        place: The test's environment, where it has one.
    """
    if not isinstance(left, _OURS) or not isinstance(right, _OURS):
        return None
    lines = [f"{_short(left)} == {_short(right)}"]
    if isinstance(left, Ending) and isinstance(right, Ending):
        lines += [f"found:    {left}", f"expected: {right}"]
    else:
        lines += _differences(left, right)
    if place is not None and place.environment is not None:
        try:
            history = place.history()
        except (HarnessError, OSError) as error:
            return [*lines, f"(no record: {in_words(error)})"]
        on = [injection.name for injection in place.injections if injection.in_place]
        told = fault_lines(history, in_place=on, proxy_tells=place.proxy_tells)
        lines += [f"fault {line}" for line in told]
        lines += last_words(history)
    return lines


def _short(value: object) -> str:
    if isinstance(value, Ending):
        code = "" if value.code is None else f", code={value.code}"
        return f"Ending(kind={value.kind!r}{code})"
    return type(value).__name__


def _differences(left: object, right: object) -> list[str]:
    if type(left) is not type(right):
        return [f"found:    {left!r}", f"expected: {right!r}"]
    lines = []
    for name in _names(left):
        found, expected = getattr(left, name), getattr(right, name)
        if found != expected:
            lines.append(f"{name}: found {found!r}, expected {expected!r}")
    return lines


def _names(value: Any) -> list[str]:
    if is_dataclass(value):
        return [field.name for field in fields(value)]
    return list(value.__struct_fields__)
