"""
A history as a picture of text: when, what, and on which side of the wire it was seen.

Pure: a history in, a text out. Within one clock the rows stand in the order of
their stamps. A record under another clock stands where the harness received it,
without a time, for across clocks stamps order nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final, Literal

from harness.history import History, Op
from harness.records import Effect

__all__ = ["timeline"]

LEAST_WIDTH: Final = 72

Lane = Literal["client", "proxy", "daemon"]
_LANES: Final[tuple[Lane, ...]] = ("client", "proxy", "daemon")
# Of rows that look alike between two faults, so many stay at the start and at the end.
_FIRST, _LAST = 2, 1
_ENDINGS: Final = {"reset": "RST", "eof": "FIN", "lost": "lost"}
_UNTOLD: Final = ("container", "network", "image", "early", "received_ns", "oom_killed")
_WALL: Final = "wall:"
_PROVIDER: Final = "provider"
_RUN: Final = re.compile(r"^harness-\d{8}-\d{6}-[0-9a-f]{12}-")
_DAEMONS: Final = re.compile(r"daemon-\d+")
_ARROWS: Final = {"upstream": "▶", "downstream": "◀"}


@dataclass(frozen=True, kw_only=True)
class _Row:
    """
    One line of the picture.

    `alike` is what it has in common with the rows it may be folded with, None if it stays.
    `call` names the call it belongs to, `begins` what the client begins with it, `fault` the
    fault that it puts on (True) or lifts (False).
    """

    at_ns: int
    timed: bool
    what: str = ""
    lane: Lane | None = None
    cell: str = ""
    arrow: Literal["", "right", "left"] = ""
    alike: tuple[str, ...] | None = None
    call: tuple[str, str] | None = None
    begins: str = ""
    fault: tuple[str, bool] | None = None
    harmed: bool = False


def timeline(
    history: History,
    *,
    width: int = 100,
    effects: Sequence[Effect] = (),
    keys: Collection[str] = (),
    fold: bool = True,
) -> str:
    """
    Draw a history.

    Args:
        history: What to draw.
        width: No line is longer than so many characters, 72 at least.
        effects: The daemon's effect log, where it is to be drawn too.
        keys: Calls with these keys are never folded; nor are those with a second attempt.
        fold: Put one line for many that look alike.
    """
    if not history.ops:
        return "  the history is empty"
    rows = _rows(history, effects, _notable(history, effects) | set(keys))
    width = max(width, LEAST_WIDTH)
    start_ns = min(row.at_ns for row in rows)
    lines = [_header(width)]
    lines += [_line(row, start_ns, width) for row in (_folded(rows) if fold else rows)]
    if history.torn:
        lines.append(_cut(f"  the last line is torn: {len(history.torn)} bytes of it", width))
    return "\n".join(lines)


def _notable(history: History, effects: Sequence[Effect]) -> set[str]:
    """The keys that somebody tried again or ran again."""
    keys = [op.key for op in history.ops if op.key is not None and (op.attempt or 1) > 1]
    executed = Counter(effect.key for effect in effects)
    return {*keys, *(key for key, times in executed.items() if times > 1)}


def _rows(history: History, effects: Sequence[Effect], notable: set[str]) -> list[_Row]:
    # The harness's own: an engine may have had the first word, by its wall clock.
    own = (op.clock for op in history.ops if not op.clock.startswith(_WALL))
    clock = next(own, history.ops[0].clock)
    several = len({op.process for op in history.ops if op.f == "call"}) > 1
    rows: list[_Row] = []
    received_ns = next(op.time_ns for op in history.ops if op.clock == clock)
    phase: str | None = None
    for op in history.ops:
        if (op.process, op.f) == ("proxy", "log"):
            # A Toxiproxy tells of each request to its API: the faults say the same, and better.
            continue
        if op.clock == clock:
            received_ns = op.time_ns
        if op.phase != phase and op.phase is not None:
            phase = op.phase
            rows.append(_Row(at_ns=received_ns, timed=False, what=f"[{phase}]"))
        row = _row(op, received_ns, timed=op.clock == clock, several=several)
        rows.append(replace(row, alike=None) if op.key in notable else row)
    rows += _executions(effects, clock, received_ns, notable)
    return list(_harmed(sorted(rows, key=lambda row: row.at_ns)))


def _harmed(rows: list[_Row]) -> Iterator[_Row]:
    """Mark the rows at whose time a fault was in place."""
    faults: set[str] = set()
    for row in rows:
        if row.fault is not None:
            name, on = row.fault
            (faults.add if on else faults.discard)(name)
        yield replace(row, harmed=bool(faults))


def _value(op: Op) -> dict[str, Any]:
    return op.value if isinstance(op.value, dict) else {}


def _row(op: Op, at_ns: int, *, timed: bool, several: bool) -> _Row:
    bare = _Row(at_ns=at_ns, timed=timed, alike=(op.process, op.f, op.type, op.error or ""))
    value = _value(op)
    if op.process == "nemesis":
        fault = (str(value.get("name", op.f)), op.f != "heal")
        # What was not lifted is still in place; what is being put on is not yet.
        done = op.type == "ok" if op.f == "heal" else op.type != "invoke"
        return replace(bare, what=_fault(op, value), alike=None, fault=fault if done else None)
    if op.f == "log":
        who = "provider " if op.process == _PROVIDER else ""
        cell = f"{who}log: {value.get('line') or value.get('rest', '')}"
        return replace(bare, lane="daemon", cell=cell)
    if op.process == _PROVIDER or value.get("hop") == _PROVIDER:
        # What is behind the daemon has no room of its own.
        return _behind(op, value, bare)
    if op.process == "proxy":
        alike = bare.alike if op.f != "passed" else ("proxy", op.f, str(value.get("stream")))
        return replace(bare, lane="proxy", cell=_proxy(op, value), alike=alike)
    if op.process == "engine":
        return replace(bare, lane="daemon", cell=f"engine: {_which(value)}{_words(op, value)}")
    if op.process == "daemon":
        return replace(bare, lane="daemon", cell=_daemon(op, value))
    if op.process == "run":
        return replace(bare, what=_words(op, value), alike=None)
    who = f"{op.process} " if several else ""
    if op.f == "call":
        return _call(op, value, bare, who)
    if op.type == "invoke":
        return replace(bare, what=f"{who}{op.f}", lane="client", arrow="right", begins=op.f)
    if op.f == "close":
        return replace(bare, what=f"{who}close", lane="client", cell=_closed(value))
    good = op.type == "ok"
    what = f"{who}{op.f} {op.type}" + ("" if op.error is None else f" {op.error}")
    cell = "" if good or op.type == "info" else "✗"
    return replace(bare, what=what, lane="client", cell=cell, arrow="left" if good else "")


def _behind(op: Op, value: dict[str, Any], bare: _Row) -> _Row:
    """The provider, and the proxy before it."""
    if op.process == _PROVIDER:
        cell = _found_ready(value) if op.f == "started" else _words(op, value)
        return replace(bare, lane="daemon", cell=f"provider: {cell}")
    alike = (_PROVIDER, op.f, str(value.get("stream")))
    return replace(bare, lane="daemon", cell=f"to provider: {_proxy(op, value)}", alike=alike)


def _call(op: Op, value: dict[str, Any], bare: _Row, who: str) -> _Row:
    request_id = str(value.get("request_id", ""))
    name = f"key={op.key}" if op.key not in (None, request_id) else request_id
    again = f" attempt {op.attempt}" if (op.attempt or 1) > 1 else ""
    row = replace(bare, lane="client", call=(op.process, request_id))
    if op.type == "invoke":
        what = f"{who}call {value.get('tool', '')} {name}{again}"
        return replace(row, what=what, arrow="right", begins=op.f)
    took = f" {value['elapsed_ms']:.1f} ms" if "elapsed_ms" in value else ""
    what = f"{who}{op.type}{took} {op.error or ''}".rstrip() + f" {name}{again}"
    if op.type == "ok":
        return replace(row, what=what, arrow="left")
    return replace(row, what=what, cell=f"✗ {_ending(value) or op.error}")


def _ending(value: dict[str, Any]) -> str:
    ending = value.get("ending") or {}
    kind = ending.get("kind", "")
    return f"closed {ending.get('code', '')}" if kind == "closed" else _ENDINGS.get(kind, kind)


def _closed(value: dict[str, Any]) -> str:
    ending = value.get("ending") or {}
    as_meant = (ending.get("code"), ending.get("first")) == (1000, "client")
    return "closed" if as_meant else f"✗ {_ending(value)}"


def _fault(op: Op, value: dict[str, Any]) -> str:
    name = str(value.get("name", op.f))
    if op.f == "heal":
        return f"▼ {name} lifted" if op.type == "ok" else f"▼ {name}: {op.error}"
    if op.error is not None:
        return f"▲ {name}: {op.error}"
    said = ", ".join(f"{k} {v}" for k, v in value.items() if k != "name")
    state = "is put on" if op.type == "invoke" else "in place"
    return f"▲ {name} {state}" + (f": {said}" if said and op.type != "invoke" else "")


def _proxy(op: Op, value: dict[str, Any]) -> str:
    if op.f == "started":
        return _found_ready(value)
    arrow = _ARROWS.get(str(value.get("stream")), "")
    size = f"{value['bytes']} bytes" if "bytes" in value else ""
    about = value.get("toxic") or value.get("detail") or value.get("how") or ""
    return " ".join(str(part) for part in (arrow, op.f, size, about) if part)


def _daemon(op: Op, value: dict[str, Any]) -> str:
    if op.f == "started":
        return _found_ready(value)
    return f"executed {op.key}" if op.f in ("effect", "executed") else _words(op, value)


def _which(value: dict[str, Any]) -> str:
    """Whose container it is, where it is not the daemon's own."""
    name = _RUN.sub("", str(value.get("container")))
    return "" if _DAEMONS.fullmatch(name) else f"{name} "


def _found_ready(value: dict[str, Any]) -> str:
    # Stamped when the harness had its answer: what a program did before may stand above.
    after = f" after {value['ready_ms']} ms" if "ready_ms" in value else ""
    who = "container" if "container" in value else f"pid {value.get('pid', 'unknown')}"
    return f"ready {who}{after}"


def _words(op: Op, value: dict[str, Any]) -> str:
    # "how" is a phrase of its own: "ended, killed by SIGKILL".
    # Of containers there is one, and its name is long.
    told = {k: v for k, v in value.items() if k not in _UNTOLD}
    said = " ".join(str(v) if k == "how" else f"{k} {v}" for k, v in told.items())
    return " ".join(part for part in (op.f, op.error or "", said) if part)


def _executions(
    effects: Sequence[Effect], clock: str, last_ns: int, notable: set[str]
) -> Iterator[_Row]:
    seen: set[str] = set()
    for effect in effects:
        again = " (again)" if effect.key in seen else ""
        seen.add(effect.key)
        same = effect.clock == clock
        yield _Row(
            at_ns=effect.time_ns if same else last_ns,
            timed=same,
            lane="daemon",
            cell=f"executed {effect.key}{again}",
            alike=None if effect.key in notable else ("daemon", "executed"),
        )


def _folded(rows: list[_Row]) -> list[_Row]:
    stays = [row.alike is None for row in rows]
    groups: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    stretch = 0
    for index, row in enumerate(rows):
        if row.alike is None and row.lane is None:
            # A fault or a phase: what looks alike before and after it is not the same.
            stretch += 1
        elif row.alike is not None:
            groups.setdefault((stretch, row.alike), []).append(index)
    for members in groups.values():
        # One line in place of one line would save nothing.
        few = len(members) <= _FIRST + _LAST + 1
        for index in members if few else [*members[:_FIRST], *members[-_LAST:]]:
            stays[index] = True
    ended_badly = {row.call for row, kept in zip(rows, stays, strict=True) if kept and row.cell}
    shown = [
        kept or (row.begins == "call" and row.call in ended_badly)
        for row, kept in zip(rows, stays, strict=True)
    ]
    folded: list[_Row] = []
    for kept, group in groupby(zip(rows, shown, strict=True), key=lambda pair: pair[1]):
        members_of = [row for row, _ in group]
        folded += members_of if kept else [_summary(members_of)]
    return folded


def _summary(rows: list[_Row]) -> _Row:
    numbers = Counter(row.begins for row in rows if row.begins)
    numbers["event"] = sum(row.lane != "client" for row in rows)
    parts = [f"{n} {word}{'s' if n != 1 else ''}" for word, n in numbers.items() if n]
    what = ", ".join(parts) or f"{len(rows)} answers"
    harmed = any(row.harmed for row in rows)
    return _Row(at_ns=rows[0].at_ns, timed=False, what=f"... {what}", harmed=harmed)


def _columns(width: int) -> tuple[int, int]:
    """The widths of the text and of each lane, past the twelve for time and fault mark."""
    text = (width - 12) * 2 // 5
    return text, (width - 12 - text) // 3


def _header(width: int) -> str:
    text, lane = _columns(width)
    names = "".join(name.ljust(lane) for name in _LANES)
    return ("  timeline (ms after start)".ljust(12 + text) + names).rstrip()


def _line(row: _Row, start_ns: int, width: int) -> str:
    text, lane = _columns(width)
    at = f"{(row.at_ns - start_ns) / 1e6:9.1f}" if row.timed else " " * 9
    mark = "▌" if row.harmed else " "
    if row.lane is None:
        return _cut(f"{at} {mark} {row.what}", width).rstrip()
    cells = ["", "", ""]
    column = _LANES.index(row.lane)
    # A row has one cell, which may run on to the end of the line.
    room = width - 12 - text - column * lane
    dashes = "─" * (lane - 3)
    arrow = {"right": f"{dashes}▶", "left": f"◀{dashes}"}.get(row.arrow, row.cell)
    cells[column] = _cut_inside(arrow, room) if row.lane == "daemon" else _cut(arrow, room)
    lanes = "".join(cell.ljust(lane) for cell in cells)
    return f"{at} {mark} {_cut(row.what, text - 1).ljust(text)}{lanes}".rstrip()


def _cut(text: str, room: int) -> str:
    flat = " ".join(text.splitlines())
    return flat if len(flat) <= room else f"{flat[: room - 1]}…"


def _cut_inside(text: str, room: int) -> str:
    """What an execution ends with tells it from others: the call's number, or (again)."""
    half = room // 2
    return text if len(text) <= room else f"{text[: room - half - 1]}…{text[-half:]}"
