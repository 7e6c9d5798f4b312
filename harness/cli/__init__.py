"""Arguments to calls, verdicts to exit codes: a file a command, which imports what it needs."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from typing import Final, NoReturn, TextIO

from harness import __version__
from harness.cli import call, clean, demo, doctor, images, proxy, show, toxic, up
from harness.errors import EXIT_FAILED, EXIT_USAGE, HarnessError, InvalidValue
from harness.program import Parser, complain

__all__ = ["main"]

# As a shell tells of SIGINT and of SIGPIPE.
_EXIT_INTERRUPTED: Final = 130
_EXIT_PIPE: Final = 141


def main() -> NoReturn:
    """The `harness` command."""
    try:
        try:
            code = _run(_parser().parse_args())
        finally:
            # Here, where a failure can be told; at its end the interpreter only grumbles.
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone, `head` for instance.
        _throw_away(sys.stdout, sys.stderr)
        code = _EXIT_PIPE
    except OSError as error:
        _throw_away(sys.stdout)
        print(f"harness: the output cannot be written: {error.strerror}", file=sys.stderr)
        code = EXIT_FAILED
    sys.exit(code)


def _run(args: argparse.Namespace) -> int:
    program = f"harness {args.command_name}"
    try:
        return int(args.command(args))
    except InvalidValue as error:
        complain(program, error)
        return EXIT_USAGE
    except HarnessError as error:
        complain(program, error)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print(f"{program}: interrupted; what was started is put away", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception:  # noqa: BLE001
        # A mistake of ours: Python would end with 1, which is a verdict on the daemon.
        traceback.print_exc()
        return EXIT_FAILED


def _throw_away(*outputs: TextIO | None) -> None:
    # What is still buffered would raise once more at the interpreter's end.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in outputs:
        if stream is not None:
            os.dup2(nowhere, stream.fileno())


def _parser() -> Parser:
    parser = Parser(
        prog="harness",
        description="Does a WebSocket MCP daemon survive a bad network? See, with evidence.",
        epilog=(
            "exit codes: 0 valid, 1 invalid (the daemon failed), 2 unknown (nothing was proven),\n"
            "3 the harness failed, 64 usage"
        ),
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command_name", required=True
    )
    for command in (demo, up, proxy, toxic, call, show, images, doctor, clean):
        command.add(commands)
    return parser
