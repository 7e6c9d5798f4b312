"""`python -m harness.refdaemon`: arguments to settings, errors to exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from harness import program
from harness.address import Address, refuse_remote
from harness.errors import EXIT_FAILED, EXIT_USAGE, EXIT_VALID, EnvironmentFailed, TargetRefused
from harness.refdaemon.effects import EffectLog
from harness.refdaemon.server import serve
from harness.refdaemon.settings import Settings

__all__ = ["main"]

_PROGRAM: Final = "harness.refdaemon"
_TOKEN: Final = "EXAI_WS_TOKEN"  # noqa: S105 - the variable's name
_EPILOG: Final = f"""\
environment:
  {_TOKEN}  the token a hello must carry; unset or empty: none is asked for. It is
                 taken from there alone, so that no process list shows it.

One JSON line on stdout says where it listens. SIGTERM and SIGINT end it: new calls
are refused, running ones get 5 s, every connection is closed with 1001.

exit codes: 0 ended when asked to, 3 could not run, 64 usage
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    # Taken out, so that no child inherits it.
    settings = _settings(options, token=os.environ.pop(_TOKEN, ""))
    program.log_to_stderr()
    try:
        refuse_remote(settings.listen, what="the daemon", allow_remote=options.allow_remote)
        with _effect_log(settings.effects) as effects:
            return program.run(_serve(settings, effects))
    except TargetRefused as error:
        program.complain(_PROGRAM, error)
        return EXIT_USAGE
    except EnvironmentFailed as error:
        program.complain(_PROGRAM, error)
        return EXIT_FAILED


async def _serve(settings: Settings, effects: EffectLog | None) -> int:
    await serve(
        settings,
        effects=effects,
        stop=program.stop_signal(),
        listening=lambda address: program.announce(f"ws://{address}"),
    )
    return EXIT_VALID


def _effect_log(path: Path | None) -> AbstractContextManager[EffectLog | None]:
    if path is None:
        return nullcontext()
    try:
        return EffectLog(path)
    except OSError as error:
        raise EnvironmentFailed(
            f"the effect log {path} cannot be opened",
            [
                ("found", error.strerror or str(error)),
                ("expected", "a file this user may append to, in a directory that exists"),
                ("next", "give another --effects FILE"),
            ],
        ) from None


def _settings(options: argparse.Namespace, *, token: str) -> Settings:
    # A name may stand for two addresses, and port 0 for another port on each.
    host = "127.0.0.1" if options.host == "localhost" else options.host
    return Settings(
        listen=Address(host, options.port),
        transport=options.transport,
        token=token,
        effects=options.effects,
        hello_timeout_s=options.hello_timeout,
        max_bytes=options.max_bytes,
        max_connections=options.max_connections,
        ping_interval_s=options.ping_interval,
        ping_timeout_s=options.ping_timeout,
    )


def _parser() -> program.Parser:
    parser = program.Parser(
        prog=f"python -m {_PROGRAM}",
        description="The reference daemon: a WebSocket tool server to harm and to judge.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add(
        "--host",
        default="127.0.0.1",
        help="listen on this address; one that is not loopback needs --allow-remote"
        " (default: %(default)s)",
    )
    add(
        "--port",
        type=program.port,
        default=8079,
        help="listen on this port; 0 lets the system choose (default: %(default)s)",
    )
    add(
        "--allow-remote",
        action="store_true",
        help="let --host be an address that other machines can reach",
    )
    add(
        "--effects",
        metavar="FILE",
        type=Path,
        help="append a JSON line to FILE for all a tool did, before its answer leaves"
        " (default: keep no log)",
    )
    add(
        "--transport",
        choices=("picows", "websockets"),
        default="picows",
        help="the library that speaks WebSocket; the wire is the same (default: %(default)s)",
    )
    add(
        "--hello-timeout",
        metavar="S",
        type=program.positive(float),
        default=15.0,
        help="cut a peer off that takes longer than S seconds over its HTTP request, and close"
        " one with 4002 that takes longer over its hello (default: %(default)g)",
    )
    add(
        "--max-bytes",
        metavar="N",
        type=program.positive(int),
        default=32 * 1024 * 1024,
        help="close a connection with 1009 if a message has more than N bytes"
        " (default: %(default)d)",
    )
    add(
        "--max-connections",
        metavar="N",
        type=program.positive(int),
        default=1000,
        help="close a connection with 1008 while N others are served (default: %(default)d)",
    )
    add(
        "--ping-interval",
        metavar="S",
        type=program.positive(float),
        default=30.0,
        help="ping a peer S seconds after its last pong (default: %(default)g)",
    )
    add(
        "--ping-timeout",
        metavar="S",
        type=program.positive(float),
        default=10.0,
        help="close a connection with 1011 if a pong takes longer than S seconds"
        " (default: %(default)g)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
