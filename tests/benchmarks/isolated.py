"""
How one class by itself is measured: by the benchmarks whose names begin with `test_`.

Measured is the CPU time of the thread, so what neighbours on the machine do is not in it.
Every round goes through all candidates in shuffled order, so that a change of the processor's
clock harms all alike. Ratios and differences are taken within a round. Garbage collection is off
meanwhile. The loop around a statement is part of the figure; `EMPTY` shows what it takes.

Such a figure says what a class costs, and nothing of what a daemon made of many does: every
program prints `WORDS`.
"""

from __future__ import annotations

import gc
import importlib
import random
import statistics
import textwrap
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from time import thread_time_ns
from types import ModuleType
from typing import Any, Final

from harness import program

__all__ = [
    "EMPTY",
    "WORDS",
    "Candidate",
    "Effort",
    "Figure",
    "Must",
    "awaited",
    "judge",
    "kept_bytes",
    "looped",
    "main",
    "measure",
    "peer",
    "prepared",
    "tell",
]

WORDS: Final = "isolated classes; says nothing about the system"

Candidate = Callable[[int], int]
"""Does an operation so many times, and returns the nanoseconds of thread time that took."""


@dataclass(frozen=True)
class Effort:
    """
    How much is measured.

    Attributes:
        rounds: How often every candidate is measured; 5 or more for a figure to be told.
        slice_ms: How long one measurement takes, about.
    """

    rounds: int = 15
    slice_ms: float = 4


@dataclass(frozen=True)
class Figure:
    """What was measured, a value a round: nanoseconds an operation, or what was made of them."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def less(self, plain: Figure) -> Figure:
        """The overhead: what it takes more than another, within each round."""
        pairs = zip(self.values, plain.values, strict=True)
        return Figure(tuple(value - other for value, other in pairs))

    def times(self, other: Figure) -> Figure:
        """The ratio to another, within each round."""
        pairs = zip(self.values, other.values, strict=True)
        return Figure(tuple(value / base for value, base in pairs))

    def a_second(self) -> Figure:
        """Operations in a second of CPU time."""
        return Figure(tuple(1e9 / value for value in self.values))

    def spread(self, form: str = ",.0f") -> str:
        """The median, and least and most behind it."""
        return f"{self.median:{form}} ({self.low:{form}}..{self.high:{form}})"


@dataclass(frozen=True, kw_only=True)
class Must:
    """
    What a figure has to reach: at most (`most`, and `aim` below it) or at least.

    Attributes:
        name: What it is about, in a few words.
        figure: What was found.
        unit: Of all numbers here.
        most: The most it may be; None where `least` is said.
        least: The least it may be; None where `most` is said.
        aim: Better than the must; None where there is none.
        form: How numbers are printed.
    """

    name: str
    figure: Figure
    unit: str
    most: float | None = None
    least: float | None = None
    aim: float | None = None
    form: str = ",.0f"

    @property
    def met(self) -> bool:
        return self._reaches(self.most if self.least is None else self.least)

    def _reaches(self, bound: float | None) -> bool:
        assert bound is not None
        found = self.figure.median
        return found >= bound if self.least is not None else found <= bound

    def line(self) -> str:
        sign, bound = ("<=", self.most) if self.least is None else (">=", self.least)
        text = f"must: {self.name} {sign} {bound:{self.form}} {self.unit}"
        found = f"found {self.figure.median:{self.form}}: {'met' if self.met else 'MISSED'}"
        if self.aim is None:
            return f"{text}; {found}"
        aim = "reached" if self._reaches(self.aim) else "not reached"
        return f"{text}; {found}; aim {self.aim:{self.form}}: {aim}"


def looped(statement: str, **names: Any) -> Candidate:
    """
    A candidate that repeats a statement in a loop of its own, without a call around it.

    Args:
        statement: Python; may have several lines.
        names: What it uses; they are locals of the loop.
    """
    run = _compiled("def", statement, names)
    return lambda n: run(n, _clock=thread_time_ns, _repeat=repeat, **names)


def awaited(statement: str, **names: Any) -> Candidate:
    """Like `looped`, within a coroutine; what the statement awaits must not suspend."""
    run = _compiled("async def", statement, names)

    def candidate(n: int) -> int:
        coroutine = run(n, _clock=thread_time_ns, _repeat=repeat, **names)
        try:
            coroutine.send(None)
        except StopIteration as end:
            return int(end.value)
        raise AssertionError(f"suspended, so its time cannot be told: {statement}")

    return candidate


def _compiled(define: str, statement: str, names: Mapping[str, Any]) -> Callable[..., Any]:
    # No number is made for a turn: repeat is the cheapest loop there is.
    source = f"""
{define} run(_turns, *, {", ".join(["_clock", "_repeat", *names])}):
    _began = _clock()
    for _ in _repeat(None, _turns):
{textwrap.indent(textwrap.dedent(statement), " " * 8)}
    return _clock() - _began
"""
    made: dict[str, Any] = {}
    exec(compile(source, "<candidate>", "exec"), made)
    return made["run"]


EMPTY: Final = looped("pass")
"""The loop without a statement."""


def prepared(prepare: Callable[[], Callable[[], object]]) -> Candidate:
    """
    A candidate that needs a fresh state each time; what makes that is not measured.

    Two readings of the clock are in the figure, so it is for operations of microseconds.

    Args:
        prepare: Makes the state and returns the operation.
    """

    def candidate(n: int) -> int:
        taken = 0
        for _ in range(n):
            operation = prepare()
            began = thread_time_ns()
            operation()
            taken += thread_time_ns() - began
        return taken

    return candidate


def measure(candidates: Mapping[str, Candidate], effort: Effort) -> dict[str, Figure]:
    """Nanoseconds of thread time an operation, by name, in the order given."""
    values: dict[str, list[float]] = {name: [] for name in candidates}
    with _no_collection():
        calls = {name: _calls(run, effort) for name, run in candidates.items()}
        order = list(candidates)
        for n in range(effort.rounds):
            random.Random(n).shuffle(order)
            for name in order:
                values[name].append(candidates[name](calls[name]) / calls[name])
    return {name: Figure(tuple(each)) for name, each in values.items()}


def _calls(run: Candidate, effort: Effort) -> int:
    """How many operations fill a slice; warms up the candidate on the way."""
    wanted_ns = effort.slice_ms * 1e6
    n = 1
    while (taken := run(n)) < wanted_ns / 4 and n < 1 << 24:
        n *= 4
    return max(1, round(n * wanted_ns / max(taken, 1)))


@contextmanager
def _no_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def kept_bytes(run: Callable[[], object]) -> int:
    """Bytes of Python objects that are there after a run and were not before it."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        run()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def peer(module: str, *, package: str = "") -> ModuleType | None:
    """
    A peer's module; where it is not installed, None, and a line says so.

    Args:
        module: What to import.
        package: Its name on PyPI, where that is another.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        print(f"not run: {package or module} is not installed")
        return None


def tell(
    figures: Mapping[str, Figure], *, measured: str, effort: Effort, against: str = ""
) -> None:
    """
    Print what was in the measurement, and a table of nanoseconds.

    Args:
        figures: By name.
        measured: What was in the measurement, a sentence.
        effort: How much was measured.
        against: Which figure the last column is a ratio to; "" for none.
    """
    print(WORDS)
    print(f"in the measurement: {measured}")
    slices = f"{effort.rounds} rounds of {effort.slice_ms:g} ms"
    print(f"thread time, {slices}, shuffled; median (min..max)")
    wide = max(len(name) for name in figures)
    last = f"   x {against}" if against else ""
    print(f"{'':{wide}} {'ns an operation':>30} {'M/s':>8}{last}")
    for name, figure in figures.items():
        ratio = f"   {figure.times(figures[against]).spread('.2f')}" if against else ""
        rate = figure.a_second().median / 1e6
        print(f"{name:{wide}} {figure.spread():>30} {rate:8.2f}{ratio}")


def judge(musts: Sequence[Must]) -> int:
    """Print a line for each must; returns 1 if one is missed, else 0."""
    for must in musts:
        print(must.line())
    return 0 if all(must.met for must in musts) else 1


def main(name: str, about: str | None, run: Callable[[Effort], int]) -> int:
    """Read the arguments of such a program and run it; returns its exit code."""
    parser = program.Parser(prog=f"python -m tests.benchmarks.{name}", description=about)
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=program.positive(int),
        default=Effort.rounds,
        help="measure each candidate N times; 5 or more for a figure to be told (default: 15)",
    )
    return run(Effort(rounds=parser.parse_args().rounds))
