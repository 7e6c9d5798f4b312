"""`python -m harness.refdaemon.provider`: arguments to a running service, errors to exit codes."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from harness import program
from harness.address import Address, refuse_remote
from harness.errors import EXIT_FAILED, EXIT_USAGE, EXIT_VALID, EnvironmentFailed, TargetRefused
from harness.http.server import listen
from harness.refdaemon.lines import LineFile
from harness.refdaemon.provider.service import Service
from harness.refdaemon.provider.work import Work

__all__ = ["main"]

_PROGRAM: Final = "harness.refdaemon.provider"
_EPILOG: Final = """\
One JSON line on stdout says where it listens. SIGTERM and SIGINT end it at once; what was
under way is broken off, and was not executed.

exit codes: 0 ended when asked to, 3 could not run, 64 usage
"""

_log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run the provider; returns its exit code."""
    options = _parser().parse_args(arguments)
    program.log_to_stderr()
    # A name may stand for two addresses, and port 0 for another port on each.
    host = "127.0.0.1" if options.host == "localhost" else options.host
    address = Address(host, options.port)
    try:
        refuse_remote(address, what="the provider", allow_remote=options.allow_remote)
        with _opened(options.executions) as file:
            return program.run(_serve(address, options, file))
    except TargetRefused as error:
        program.complain(_PROGRAM, error)
        return EXIT_USAGE
    except EnvironmentFailed as error:
        program.complain(_PROGRAM, error)
        return EXIT_FAILED


async def _serve(address: Address, options: argparse.Namespace, file: LineFile | None) -> int:
    stop = program.stop_signal()
    work = Work(seed=options.seed, file=file)
    service = Service(work, delay_ms=options.delay_ms)
    try:
        listening = await listen(
            service.handle, address.host, address.port, options=service.options
        )
    except OSError as error:
        raise EnvironmentFailed(
            f"the provider cannot listen on {address}",
            [
                ("found", error.strerror or str(error)),
                ("expected", "a free port on an address of this machine"),
                ("next", "stop what listens there, or give --port 0 to let the system choose"),
            ],
        ) from None
    where = Address(listening.host, listening.port)
    _log.info("provider: listening on %s, seed %d", where, options.seed)
    program.announce(f"http://{where}")
    await stop.wait()
    _log.info("provider: ended, cut off %d", work.running)
    await listening.close()
    work.close()
    return EXIT_VALID


@contextmanager
def _opened(path: Path | None) -> Iterator[LineFile | None]:
    if path is None:
        yield None
        return
    try:
        file = LineFile(path)
    except OSError as error:
        raise EnvironmentFailed(
            f"the log of executions {path} cannot be opened",
            [
                ("found", error.strerror or str(error)),
                ("expected", "a file this user may append to, in a directory that exists"),
                ("next", "give another --executions FILE"),
            ],
        ) from None
    try:
        yield file
    finally:
        file.close()


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f'"{text}" is not allowed; expected a whole number')
    return int(text)


def _parser() -> program.Parser:
    parser = program.Parser(
        prog=f"python -m {_PROGRAM}",
        description="A stand-in for the AI provider that a daemon calls over HTTP.",
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
        default=8090,
        help="listen on this port; 0 lets the system choose (default: %(default)s)",
    )
    add(
        "--allow-remote",
        action="store_true",
        help="let --host be an address that other machines can reach",
    )
    add(
        "--executions",
        metavar="FILE",
        type=Path,
        help="append a JSON line to FILE for each prompt it worked on, before the answer leaves"
        " (default: keep no log)",
    )
    add(
        "--delay-ms",
        metavar="N",
        type=_whole,
        default=0,
        help="work for N milliseconds on a prompt whose request does not say how long"
        " (default: %(default)d)",
    )
    add(
        "--seed",
        metavar="N",
        type=_whole,
        default=0,
        help="what the answers are drawn from, besides their prompts (default: %(default)d)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
