"""
Why a test failed, in a few lines: what was expected, what was seen, which fault was in place
and what it touched.

Pure: an error or a history in, lines out. What the proxy told is in the history too, so a
fault that touched nothing is seen to have touched nothing.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from textwrap import dedent

from harness.errors import HarnessError
from harness.history import History, Op

__all__ = ["account", "fault_lines", "fault_said", "in_words", "last_words"]

_TOUCHES = ("delayed", "dropped", "cut", "reset")
_STREAMS = {"upstream": "requests", "downstream": "replies"}
_ROOM = 200
_LEAVES = 3


def account(error: BaseException, *, statement: str = "") -> list[tuple[str, str]]:
    """
    What the failing statement of a test expected, and what it met instead: rows of a label
    ("failed", "expected", "doing", "seen") and a text.

    Args:
        error: What it raised.
        statement: Its source; "" where nobody knows it.
    """
    wanted = _asserted(statement)
    rows: list[tuple[str, str]] = []
    if not isinstance(error, AssertionError):
        rows += [("doing", _line(statement))] if statement else []
        return [*rows, ("seen", in_words(error))]
    message, seen = _explained(str(error))
    if message and (seen or wanted):
        rows.append(("failed", message))
    if statement:
        rows.append(("expected", wanted) if wanted else ("doing", _line(statement)))
    # Where pytest did not rewrite the assertion, it tells no values.
    return [*rows, ("seen", seen or (not wanted and message) or "it does not hold")]


def _asserted(statement: str) -> str:
    """What an `assert` asserts, without its message; "" for all else."""
    try:
        tree = ast.parse(dedent(statement)).body
    except SyntaxError:
        # The head of a compound statement, for instance.
        return ""
    if not tree or not isinstance(tree[0], ast.Assert):
        return ""
    return _line(ast.get_source_segment(dedent(statement), tree[0].test) or "")


def _explained(text: str) -> tuple[str, str]:
    """The message and the first line of what pytest adds to it, which has the values."""
    message, found, explanation = f"\n{text}".partition("\nassert ")
    return _line(message), _line(explanation.split("\n", 1)[0]) if found else ""


def _line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _ROOM else f"{flat[: _ROOM - 1]}…"


def in_words(error: BaseException) -> str:
    """An error in a line; of a group, also those that it holds."""
    if isinstance(error, BaseExceptionGroup):
        told = Counter(in_words(leaf) for leaf in _leaves(error))
        parts = [f"{n} x {text}" if n > 1 else text for text, n in told.items()]
        more = [f"{len(parts) - _LEAVES} more"] if len(parts) > _LEAVES else []
        return f"{type(error).__name__}: {'; '.join(parts[:_LEAVES] + more)}"
    text = error.headline if isinstance(error, HarnessError) else str(error)
    first = next((line for line in text.splitlines() if line.strip()), "")
    return _line(f"{type(error).__name__}: {first}" if first else type(error).__name__)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for one in error.exceptions:
        yield from _leaves(one)


@dataclass(kw_only=True)
class _Harm:
    name: str
    type: str
    settings: Mapping[str, object]
    on_ns: int | None = None
    off_ns: int | None = None
    trouble: str | None = None
    touched: dict[str, tuple[int, int]] = field(default_factory=dict)
    calls: int = 0


def fault_lines(
    history: History, *, in_place: Collection[str] = (), proxy_tells: bool = True
) -> list[str]:
    """
    A line for each fault of a run, those first that were in place when it failed.

    Args:
        history: The run's record.
        in_place: Names of the injections that were on when the failure came.
        proxy_tells: Whether this proxy tells what it did to which connection.
    """
    lines = []
    for harm in sorted(_harms(history), key=lambda harm: harm.name not in in_place):
        told = fault_said(harm.type, harm.settings)
        if harm.on_ns is None:
            why = f" ({harm.trouble.removeprefix('not injected: ')})" if harm.trouble else ""
            lines.append(f"not put on: {told}{why}")
            continue
        still = harm.off_ns is None or harm.name in in_place
        state = "in place" if still else "lifted before"
        lines.append(f"{state}: {told} ({_evidence(harm, proxy_tells=proxy_tells)})")
    return lines


def last_words(history: History, *, count: int = 3) -> list[str]:
    """What clients did last, newest last."""
    ends = [op for op in history.ops if op.f in ("call", "close", "open") and op.type != "invoke"]
    return [_word(op) for op in ends[-count:]]


def _word(op: Op) -> str:
    value = op.value if isinstance(op.value, dict) else {}
    how = value.get("how", "")
    took = f" after {value['elapsed_ms']:.1f} ms" if "elapsed_ms" in value else ""
    ended = f"{op.process} {op.f} {op.type}{took}"
    return f"{ended}: {how or op.error}" if how or op.error else ended


def _harms(history: History) -> list[_Harm]:
    found: dict[str, _Harm] = {}
    for op in history.ops:
        value = op.value if isinstance(op.value, dict) else {}
        if op.process == "nemesis":
            name = str(value.get("name", op.f))
            if op.f != "heal" and op.type == "invoke":
                settings = {k: v for k, v in value.items() if k != "name"}
                found[name] = _Harm(name=name, type=op.f, settings=settings)
            elif name in found:
                _follow(found[name], op)
        elif op.process == "proxy" and op.f in _TOUCHES and value.get("toxic") in found:
            touched = found[value["toxic"]].touched
            times, size = touched.get(op.f, (0, 0))
            touched[op.f] = times + 1, size + int(value.get("bytes", 0))
    for begun, ended in history.calls():
        for harm in found.values():
            harm.calls += _overlap(harm, begun, ended)
    return list(found.values())


def _follow(harm: _Harm, op: Op) -> None:
    match op.f, op.type:
        case "heal", "ok":
            harm.off_ns = op.time_ns
        case "heal", _:
            pass
        case _, "ok":
            harm.on_ns = op.time_ns
        case _:
            harm.trouble = op.error


def _overlap(harm: _Harm, begun: Op, ended: Op | None) -> bool:
    if harm.on_ns is None:
        return False
    begins_in_time = harm.off_ns is None or begun.time_ns <= harm.off_ns
    return begins_in_time and (ended is None or ended.time_ns >= harm.on_ns)


def fault_said(type: str, settings: Mapping[str, object]) -> str:
    """A fault and what is set, for instance "latency on replies, latency_ms 200"."""
    stream = settings.get("stream")
    where = f" on {_STREAMS[str(stream)]}" if stream in _STREAMS else ""
    where += f" (hop {settings['hop']})" if "hop" in settings else ""
    usual = {"toxicity": 1, "jitter_ms": 0}
    told = [
        f"{name} {value}"
        for name, value in settings.items()
        if name not in ("stream", "hop") and usual.get(name) != value
    ]
    return ", ".join([f"{type}{where}", *told])


def _evidence(harm: _Harm, *, proxy_tells: bool) -> str:
    calls = "1 call" if harm.calls == 1 else f"{harm.calls} calls"
    exposed = f"{calls} exposed"
    if "stream" not in harm.settings:
        return exposed
    if not proxy_tells:
        return f"{exposed}; this proxy does not tell what it touched"
    if not harm.touched:
        return f"{exposed}; it touched nothing: no data met it"
    told = ", ".join(f"{kind} {n} x, {size} bytes" for kind, (n, size) in harm.touched.items())
    return f"{told}; {exposed}"
