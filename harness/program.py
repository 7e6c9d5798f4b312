"""
What every program of ours does alike: read arguments, log, say where it listens, run its loop.

A usage error ends with 64, also where argparse would say 2: 2 is a verdict here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn

from harness.errors import EXIT_USAGE, HarnessError, InvalidValue

__all__ = [
    "Parser",
    "announce",
    "complain",
    "log_to_stderr",
    "port",
    "positive",
    "run",
    "stop_signal",
]


class Parser(argparse.ArgumentParser):
    """
    An argparse parser whose complaints say what to do next and exit with 64.

    Args:
        late_epilog: What ends its help, made only when that is asked for.
        options: argparse's own.
    """

    def __init__(self, *, late_epilog: Callable[[], str] | None = None, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        # An abbreviation that works today is another option's name tomorrow.
        options["allow_abbrev"] = False
        super().__init__(**options)
        self._late_epilog = late_epilog

    def format_help(self) -> str:
        if self._late_epilog is not None:
            self.epilog = self._late_epilog()
        return super().format_help()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # A command's parser is asked in this way; it complains itself, under its own name.
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n  next  {self.prog} --help\n")


def port(text: str) -> int:
    """An argument that is a port, 0 to 65535."""
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f'"{text}" is not a port; expected 0 to 65535')
    return int(text)


def positive(kind: Callable[[str], float]) -> Callable[[str], Any]:
    """An argument that is a number of that kind, more than 0."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        # NaN compares false, so it is refused here too.
        if not value > 0:
            raise argparse.ArgumentTypeError(f'"{text}" is not allowed; expected a number above 0')
        return value

    return read


def complain(program: str, error: HarnessError) -> None:
    """Print an error as every program does: its class, its sentence, its rows."""
    print(f"{program}: {type(error).__name__}: {error}", file=sys.stderr)


# Toxiproxy's words for LOG_LEVEL, so that its users need not learn ours.
_LEVELS: Final = {
    "trace": "DEBUG",
    "debug": "DEBUG",
    "info": "INFO",
    "warn": "WARNING",
    "warning": "WARNING",
    "error": "ERROR",
    "fatal": "CRITICAL",
    "panic": "CRITICAL",
}


def log_to_stderr(level: str = "info") -> None:
    """
    Log to stderr, one line a record, values at the end.

    Raises:
        InvalidValue: If there is no such level.
    """
    if level.lower() not in _LEVELS:
        raise InvalidValue(f'"{level}" is no log level; expected one of {", ".join(_LEVELS)}')
    logging.basicConfig(
        stream=sys.stderr,
        level=_LEVELS[level.lower()],
        format="%(asctime)s.%(msecs)03d %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
    )
    # Frames, and so tokens, pass through these at lower levels.
    for name in ("websockets", "picows", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def announce(url: str) -> None:
    """Say on stdout, in one JSON line, where this program listens."""
    print(json.dumps({"listening": url}), flush=True)


def stop_signal() -> asyncio.Event:
    """An event that is set when this process is asked to end (SIGTERM or SIGINT)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run a program's coroutine on uvloop where it exists, and return its exit code."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)
