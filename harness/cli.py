"""Arguments to calls, verdicts to exit codes. Each command imports what it needs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness import __version__
from harness.address import Address
from harness.clock import fresh_seed
from harness.errors import EXIT_FAILED, EXIT_USAGE, EXIT_VALID, HarnessError, InvalidValue
from harness.program import Parser, complain, log_to_stderr, port, positive, run

if TYPE_CHECKING:
    # argparse has no public name for what add_subparsers returns.
    Commands = argparse._SubParsersAction[Parser]  # noqa: SLF001

__all__ = ["main"]


def main() -> NoReturn:
    """The `harness` command."""
    args = _parser().parse_args()
    try:
        code: int = args.command(args)
    except InvalidValue as error:
        complain("harness", error)
        code = EXIT_USAGE
    except HarnessError as error:
        complain("harness", error)
        code = EXIT_FAILED
    except KeyboardInterrupt:
        print("harness: interrupted; what was started is put away", file=sys.stderr)
        code = 130
    sys.exit(code)


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
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_proxy(commands)
    _add_call(commands)
    _add_show(commands)
    return parser


def _add_demo(commands: Commands) -> None:
    demo = commands.add_parser(
        "demo",
        help="bring up a daemon and a proxy, harm the wire in five ways, tell what was seen",
        description="The story in six steps, each with what was expected, measured and proven.",
    )
    demo.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="root seed of all draws (default: a fresh one, printed)",
    )
    demo.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where run directories are kept (default: runs)",
    )
    demo.set_defaults(command=_demo)


def _demo(args: argparse.Namespace) -> int:
    import asyncio

    from harness.demo import demo

    seed = fresh_seed() if args.seed is None else args.seed
    # Plain asyncio: what the client measures must not depend on which loop is installed.
    return asyncio.run(demo(seed=seed, runs=args.runs))


def _add_proxy(commands: Commands) -> None:
    proxy = commands.add_parser(
        "proxy",
        help="a Toxiproxy without Docker: its HTTP API, its toxics, and more",
        description=(
            "Serve Toxiproxy's HTTP API; its clients drive this one too. There so far: proxies,\n"
            "reset, and the toxics latency, bandwidth, timeout, limit_data and reset_peer.\n"
            'Prints one JSON line {"listening": "http://…"} when it listens; ends on SIGTERM.'
        ),
        epilog=(
            "try it:\n"
            '  curl -d \'{"name": "edge", "upstream": "127.0.0.1:8079", '
            '"listen": "127.0.0.1:9079"}\' http://127.0.0.1:8474/proxies\n'
            '  curl -d \'{"type": "latency", "attributes": {"latency": 200}}\' '
            "http://127.0.0.1:8474/proxies/edge/toxics\n"
            "  curl http://127.0.0.1:8474/harness/events"
        ),
    )
    proxy.add_argument(
        "--host", default="127.0.0.1", help="where the API listens (default: 127.0.0.1)"
    )
    proxy.add_argument(
        "--port",
        type=port,
        default=8474,
        metavar="N",
        help="its port; 0 lets the system choose (default: 8474)",
    )
    proxy.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="root seed of jitter and toxicity: the same seed, the same draws (default: fresh)",
    )
    proxy.add_argument(
        "--allow-remote",
        action="store_true",
        help="let the API, proxies and upstreams be on other machines than this one",
    )
    proxy.set_defaults(command=_proxy)


def _proxy(args: argparse.Namespace) -> int:
    from harness.proxy.server import serve

    log_to_stderr(os.environ.get("LOG_LEVEL", "info"))
    seed = fresh_seed() if args.seed is None else args.seed
    address = Address(args.host, args.port)
    return run(serve(address, seed=seed, allow_remote=args.allow_remote))


def _add_call(commands: Commands) -> None:
    call = commands.add_parser(
        "call",
        help="say hello to a daemon and call one tool",
        description="Connect, say hello, call one tool, print its reply and how long it took.",
        epilog=(
            'example: harness call ws://127.0.0.1:8079 echo \'{"text": "hi"}\'\n'
            "The daemon's token is read from the environment variable EXAI_WS_TOKEN.\n"
            "exit codes: 0 answered, 1 certainly did not happen, 2 may have happened"
        ),
    )
    call.add_argument("url", metavar="URL", help="the daemon's address, ws://host:port/path")
    call.add_argument("tool", metavar="TOOL", help="the tool's name")
    call.add_argument(
        "arguments", metavar="JSON", nargs="?", default="{}", help="its arguments (default: {})"
    )
    call.add_argument(
        "--call-timeout",
        type=positive(int),
        default=2000,
        metavar="MS",
        help=(
            "give up on the call after MS milliseconds; it is then unknown, since the daemon "
            "may still have run it (default: 2000)"
        ),
    )
    call.add_argument(
        "--allow-remote", action="store_true", help="allow a daemon that is not on this machine"
    )
    call.set_defaults(command=_call)


def _call(args: argparse.Namespace) -> int:
    import asyncio

    from harness.call import call_once

    return asyncio.run(
        call_once(
            args.url,
            args.tool,
            args.arguments,
            timeout_s=args.call_timeout / 1000,
            token=os.environ.get("EXAI_WS_TOKEN"),
            allow_remote=args.allow_remote,
        )
    )


def _add_show(commands: Commands) -> None:
    show = commands.add_parser(
        "show",
        help="print the timeline of a run",
        description="Print what client, proxy and daemon saw, in order.",
    )
    show.add_argument(
        "run",
        metavar="RUN",
        type=Path,
        nargs="?",
        default=Path("runs/latest"),
        help="a run directory (default: runs/latest)",
    )
    show.add_argument(
        "--all", action="store_true", help="every line; do not fold those that look alike"
    )
    show.set_defaults(command=_show)


def _show(args: argparse.Namespace) -> int:
    import shutil

    from harness.records import Effect, read_lines
    from harness.report.timeline import timeline
    from harness.run.store import load_history

    effects_file = args.run / "effects.jsonl"
    effects = read_lines(effects_file.read_bytes(), Effect)[0] if effects_file.exists() else []
    width = shutil.get_terminal_size((140, 24)).columns
    print(timeline(load_history(args.run), effects=effects, width=width, fold=not args.all))
    return EXIT_VALID
