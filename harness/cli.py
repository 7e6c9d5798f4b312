"""Arguments to calls, verdicts to exit codes. Each command imports what it needs."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TextIO

from harness import __version__
from harness.address import Address
from harness.clock import fresh_seed
from harness.errors import EXIT_FAILED, EXIT_USAGE, EXIT_VALID, HarnessError, InvalidValue
from harness.program import Parser, complain, log_to_stderr, port, positive, run

if TYPE_CHECKING:
    # argparse has no public name for what add_subparsers returns.
    Commands = argparse._SubParsersAction[Parser]  # noqa: SLF001

__all__ = ["main"]

# As a shell tells of SIGINT and of SIGPIPE.
_EXIT_INTERRUPTED: Final = 130
_EXIT_PIPE: Final = 141

_RUNS: Final = Path("runs")


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
    _add_demo(commands)
    _add_proxy(commands)
    _add_toxic(commands)
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
    _add_runs(demo)
    demo.set_defaults(command=_demo)


def _add_runs(command: Parser) -> None:
    command.add_argument(
        "--runs",
        type=_folder,
        default=_RUNS,
        metavar="DIR",
        help="where run directories are kept (default: runs)",
    )


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError('"" is not allowed; expected the path of a folder')
    return Path(text)


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
            "  harness toxic add latency latency_ms=200\n"
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


def _add_toxic(commands: Commands) -> None:
    toxic = commands.add_parser(
        "toxic",
        help="put a toxic on any Toxiproxy's wire, take it off, list what is there",
        description="Put a toxic on the wire, take it off, list what is there: on any Toxiproxy.",
        epilog=(
            "example:\n"
            "  harness toxic add latency latency_ms=200\n"
            "  harness toxic list\n"
            "  harness toxic remove latency_downstream"
        ),
    )
    toxic.set_defaults(command=_toxic)
    actions = toxic.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    _add_toxic_add(actions)
    remove = actions.add_parser(
        "remove", help="take it off", description="Take a toxic off, and show what is left."
    )
    remove.add_argument("name", metavar="NAME", help="the toxic's name")
    _add_server(remove, proxy="the only one there is")
    show = actions.add_parser(
        "list", help="show what is there", description="Show the toxics of each proxy."
    )
    _add_server(show, proxy="all")


def _add_toxic_add(actions: Commands) -> None:
    add = actions.add_parser(
        "add",
        help="put it on",
        description="Put a toxic on, and show what is on the wire now.",
        late_epilog=_toxics_help,
    )
    add.add_argument("type", metavar="TYPE", help="which toxic; they are listed below")
    add.add_argument(
        "settings", metavar="KEY=VALUE", nargs="*", help="its settings, right after TYPE"
    )
    add.add_argument(
        "--stream",
        metavar="WAY",
        help="upstream: client to daemon; downstream: replies (default: downstream)",
    )
    add.add_argument(
        "--toxicity", metavar="F", help="the share of connections it affects, 0 to 1 (default: 1)"
    )
    add.add_argument("--name", help="its name (default: TYPE_WAY)")
    _add_server(add, proxy="the only one there is")


def _add_server(action: Parser, *, proxy: str) -> None:
    action.add_argument("--proxy", metavar="NAME", help=f"the name of the proxy (default: {proxy})")
    action.add_argument(
        "--api",
        metavar="URL",
        help="the server's API (default: $HARNESS_API, else http://127.0.0.1:8474)",
    )
    action.add_argument(
        "--allow-remote", action="store_true", help="allow a server that is not on this machine"
    )


def _toxics_help() -> str:
    from harness.toxic import describe_toxics

    return describe_toxics()


def _toxic(args: argparse.Namespace) -> int:
    import asyncio

    from harness.toxic import DEFAULT_API, add_toxic, list_toxics, remove_toxic

    server = {
        "proxy": args.proxy,
        "api": args.api or os.environ.get("HARNESS_API") or DEFAULT_API,
        "allow_remote": args.allow_remote,
    }
    if args.action == "add":
        shared = {"stream": args.stream, "toxicity": args.toxicity}
        options = [f"{key}={value}" for key, value in shared.items() if value is not None]
        work = add_toxic(args.type, [*args.settings, *options], name=args.name, **server)
    elif args.action == "remove":
        work = remove_toxic(args.name, **server)
    else:
        work = list_toxics(**server)
    print(asyncio.run(work))
    return EXIT_VALID


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
        epilog=(
            "example: harness show demo      the newest run of that name; so does its path,\n"
            "                                and demo/20261122-191500 is that very run"
        ),
    )
    show.add_argument(
        "run",
        metavar="RUN",
        nargs="?",
        help="a run directory, or the name of a run (default: the latest)",
    )
    _add_runs(show)
    show.add_argument(
        "--all", action="store_true", help="every line; do not fold those that look alike"
    )
    show.set_defaults(command=_show)


def _show(args: argparse.Namespace) -> int:
    import shutil

    from harness.records import Effect, read_lines
    from harness.report.timeline import timeline
    from harness.run.find import find_run
    from harness.run.store import load_history

    run = find_run(args.run, runs=args.runs)
    effects_file = run / "effects.jsonl"
    effects = read_lines(effects_file.read_bytes(), Effect)[0] if effects_file.exists() else []
    width = shutil.get_terminal_size((140, 24)).columns
    print(timeline(load_history(run), effects=effects, width=width, fold=not args.all))
    return EXIT_VALID
