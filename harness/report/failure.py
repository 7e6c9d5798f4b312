"""
Why a test failed, in a few lines: which fault was in place and what it touched.

Pure: a history in, lines out. What the proxy told is in the history too, so a fault
that touched nothing is seen to have touched nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from harness.history import History, Op

__all__ = ["fault_lines", "last_words"]

_TOUCHES = ("delayed", "dropped", "cut", "reset")
_STREAMS = {"upstream": "requests", "downstream": "replies"}


@dataclass(kw_only=True)
class _Harm:
    name: str
    type: str
    settings: dict[str, object]
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
    harms = _harms(history)
    if not harms:
        return ["none was injected"]
    lines = []
    for harm in sorted(harms, key=lambda harm: harm.name not in in_place):
        state = "in place" if harm.name in in_place else "lifted before"
        if harm.on_ns is None:
            state = f"not put on, {harm.trouble}" if harm.trouble else "never put on"
        lines.append(f"{state}: {_said(harm)} ({_evidence(harm, proxy_tells=proxy_tells)})")
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


def _said(harm: _Harm) -> str:
    """The fault and what is set, for instance "latency on replies, latency_ms 200"."""
    return ", ".join([f"{harm.type}{_where(harm)}", *_set(harm)])


def _where(harm: _Harm) -> str:
    stream = harm.settings.get("stream")
    return f" on {_STREAMS[str(stream)]}" if stream in _STREAMS else ""


def _set(harm: _Harm) -> Iterator[str]:
    usual = {"toxicity": 1, "jitter_ms": 0}
    for name, value in harm.settings.items():
        if name != "stream" and usual.get(name) != value:
            yield f"{name} {value}"


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
