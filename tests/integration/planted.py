"""
The reference daemon with one mistake in what it counts, put in before it starts: whoever compares
must find it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from harness.daemons.reference import Reference

__all__ = ["MISTAKES", "Mistake"]

_RUN: Final = (
    "import runpy; runpy.run_module('harness.refdaemon', run_name='__main__', alter_sys=True)"
)

# Late enough that whoever waited for the daemon to be ready is gone.
_ONCE: Final = """
from collections import Counter
from harness.refdaemon import figures

class Once:
    def __init__(self, after):
        self.left = after
    def __call__(self):
        self.left -= 1
        return self.left == 0
"""

_COUNTER: Final = """
once = Once(6)
def counted(self, name, value):
    if name == "{name}" and value and once():
        value += {off}
    object.__setattr__(self, name, value)
figures.Counters.__setattr__ = counted
"""

_BY_WORD: Final = """
once = Once(9)
class Off(Counter):
    def __setitem__(self, word, count):
        super().__setitem__(word, count - once())
made = figures.Figures.__init__
def begun(self, **given):
    made(self, **given)
    self.{name} = Off()
figures.Figures.__init__ = begun
"""

_BYTES: Final = """
once = Once(20)
ended = figures.Figures.ended
def off(self, wire, cause):
    ended(self, wire, cause)
    self.{name} += once()
figures.Figures.ended = off
"""

_TIMES: Final = """
once = Once(40)
ran = figures.Figures.ran
def off(self, waited_ns, worked_ns):
    if once():
        {instead}
    else:
        ran(self, waited_ns, worked_ns)
figures.Figures.ran = off
"""


@dataclass(frozen=True)
class Mistake:
    """
    A mistake of a daemon.

    Attributes:
        code: What makes it.
        found_in: Which comparison must find it, and no other.
    """

    code: str
    found_in: str

    def daemon(self) -> type[Reference]:
        """The daemon that makes it."""

        class Planted(Reference):
            code: ClassVar[str] = f"{_ONCE}{self.code}\n{_RUN}"

            def _words(self, *, host: str, port: int, effects: str) -> list[str]:
                words = super()._words(host=host, port=port, effects=effects)
                place = words.index("-m")
                return [*words[:place], "-c", self.code, *words[place + 2 :]]

        return Planted


def _counter(name: str, off: int, found_in: str) -> Mistake:
    return Mistake(_COUNTER.format(name=name, off=off), found_in)


MISTAKES: Final = {
    "an executed call twice": _counter("calls_executed", 1, "calls"),
    "a failed call not": _counter("calls_failed", -1, "calls"),
    "a refused call twice": _counter("calls_refused", 1, "calls"),
    "a cancelled call not": _counter("calls_cancelled", -1, "calls"),
    "a replayed call not": _counter("calls_replayed", -1, "calls"),
    "a timed out call twice": _counter("calls_timed_out", 1, "calls"),
    "a refused frame not": _counter("frames_refused", -1, "calls"),
    "an error not": Mistake(_BY_WORD.format(name="codes"), "calls"),
    "a limit not": Mistake(_BY_WORD.format(name="limits"), "calls"),
    "a connection twice": _counter("connections_opened", 1, "connections"),
    "a FIN not": _counter("closed_by_eof", -1, "connections"),
    "a reset twice": _counter("closed_by_reset", 1, "connections"),
    "a byte received": Mistake(_BYTES.format(name="received_bytes"), "bytes"),
    "a byte sent": Mistake(_BYTES.format(name="sent_bytes"), "bytes"),
    "a time not": Mistake(_TIMES.format(instead="pass"), "times"),
    "a time longer": Mistake(_TIMES.format(instead="ran(self, waited_ns, 4 * worked_ns)"), "times"),
}
"""By what it counts wrong; once each."""
