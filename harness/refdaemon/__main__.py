"""`python -m harness.refdaemon`: arguments to settings, errors to exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from harness import program
from harness.address import Address, refuse_remote
from harness.complaints import refused
from harness.errors import EXIT_FAILED, EXIT_USAGE, EXIT_VALID, EnvironmentFailed, InvalidValue
from harness.refdaemon.configuring import DaemonSources
from harness.refdaemon.defects import DEFECTS
from harness.refdaemon.effects import EffectLog
from harness.refdaemon.server import serve
from harness.refdaemon.settings import Settings

__all__ = ["main"]

_PROGRAM: Final = "harness.refdaemon"
_SECRETS: Final = ("EXAI_WS_TOKEN", "EXAI_WS_ADMIN_TOKEN")
_EPILOG: Final = """\
environment:
  EXAI_WS_TOKEN        the token a hello must carry; unset or empty: none is asked for
  EXAI_WS_ADMIN_TOKEN  what a change of the configuration must carry; unset: only SIGHUP changes it
  Both are taken from there alone, so that no process list shows them. EXAI_CONFIG_PRESET and the
  variable of each key of docs/configuration.md count too.

A JSON line on stdout says where it listens, another where its monitor does. SIGHUP reads the
configuration again. SIGTERM and SIGINT end it: new calls are refused, running ones get
server.drain_s, every connection is closed with 1001.

exit codes: 0 ended when asked to, 3 could not run, 64 usage
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon; returns its exit code."""
    options = _parser().parse_args(arguments)
    environment = dict(os.environ)
    for name in _SECRETS:
        # Taken out, so that no child inherits it.
        os.environ.pop(name, None)
    program.log_to_stderr()
    try:
        settings = _settings(options, environment)
        config = settings.loaded.config
        listens = [Address(config.server.host, config.server.port)]
        if config.monitor.port is not None:
            listens.append(Address(config.monitor.host, config.monitor.port))
        for where in listens:
            refuse_remote(where, what="the daemon", allow_remote=options.allow_remote)
        with _effect_log(settings.effects) as effects:
            return program.run(_serve(settings, effects))
    except InvalidValue as error:
        if "next" not in dict(error.details):
            advice = f"python -m {_PROGRAM} --help; docs/configuration.md has every key"
            error = InvalidValue(error.headline, [*error.details, ("next", advice)])
        program.complain(_PROGRAM, error)
        return EXIT_USAGE
    except EnvironmentFailed as error:
        program.complain(_PROGRAM, error)
        return EXIT_FAILED


async def _serve(settings: Settings, effects: EffectLog | None) -> int:
    def listening(address: Address, monitor: Address | None) -> None:
        program.announce(f"ws://{address}")
        if monitor is not None:
            program.announce(f"http://{monitor}")

    await serve(settings, effects=effects, stop=program.stop_signal(), listening=listening)
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


def _settings(options: argparse.Namespace, environment: dict[str, str]) -> Settings:
    sources = DaemonSources(
        file=options.config, environment=environment, arguments=_arguments(options)
    )
    unknown = [name for name in options.defect if name not in DEFECTS]
    if unknown:
        known = ", ".join(DEFECTS)
        raise refused("--defect", [(name, f"is none; expected one of {known}") for name in unknown])
    return Settings(
        loaded=sources.load(),
        transport=options.transport,
        effects=options.effects,
        allow_remote=options.allow_remote,
        defects=frozenset(options.defect),
    )


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The options that stand for keys, and over them what --set says."""
    given: dict[str, Any] = {
        "preset": options.preset,
        # A name may stand for two addresses, and port 0 for another port on each.
        "server.host": "127.0.0.1" if options.host == "localhost" else options.host,
        "server.port": options.port,
        "server.hello_timeout_s": options.hello_timeout,
        "monitor.port": options.monitor_port,
        "provider.url": options.provider,
        "connections.ping_interval_s": options.ping_interval,
        "connections.ping_timeout_s": options.ping_timeout,
        "server.max_message_bytes": options.max_bytes,
        "admission.max_connections": options.max_connections,
        # Parts of these two; what is larger than the whole would never hold.
        "server.max_call_bytes": options.max_bytes,
        "admission.max_connections_per_address": options.max_connections,
    }
    return {name: value for name, value in given.items() if value is not None} | dict(options.set)


def _key_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f'"{text}" is no SECTION.KEY=VALUE')
    return name, value


def _parser() -> program.Parser:
    parser = program.Parser(
        prog=f"python -m {_PROGRAM}",
        description="The reference daemon: a WebSocket tool server to harm and to judge.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add(
        "--host",
        help="listen on this address; one that is not loopback needs --allow-remote"
        " (default: 127.0.0.1)",
    )
    add("--port", type=program.port, help="listen on this port; 0 lets the system choose (8079)")
    add(
        "--allow-remote",
        action="store_true",
        help="let --host be an address that other machines can reach",
    )
    add(
        "--monitor-port",
        metavar="PORT",
        type=program.port,
        help="tell how it is, over HTTP, on this port; 0 lets the system choose (default: nowhere)",
    )
    add(
        "--provider",
        metavar="URL",
        help="where the provider of the tool chat is, http://HOST:PORT (default: no such tool)",
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
    _add_configuration(parser)
    return parser


def _add_configuration(parser: program.Parser) -> None:
    add = parser.add_argument_group("configuration").add_argument
    add("--config", metavar="FILE", type=Path, help="a TOML file, read again on SIGHUP")
    add("--preset", metavar="NAME", help="development, testing, or production (the default)")
    add(
        "--set",
        metavar="SECTION.KEY=VALUE",
        type=_key_value,
        action="append",
        default=[],
        help='above file and variables; any number of them; "none" lifts a limit',
    )
    add(
        "--hello-timeout",
        metavar="S",
        type=program.positive(float),
        help="cut a peer off that takes longer than S seconds over its HTTP request, and close"
        " one with 4002 that takes longer over its hello (server.hello_timeout_s)",
    )
    add(
        "--max-bytes",
        metavar="N",
        type=program.positive(int),
        help="close a connection with 1009 if a message has more than N bytes"
        " (server.max_message_bytes)",
    )
    add(
        "--max-connections",
        metavar="N",
        type=program.positive(int),
        help="close a connection with 1008 while N others are served, wherever they come from"
        " (admission.max_connections)",
    )
    add(
        "--ping-interval",
        metavar="S",
        type=program.positive(float),
        help="ping a peer of whom nothing came for S seconds (connections.ping_interval_s)",
    )
    add(
        "--ping-timeout",
        metavar="S",
        type=program.positive(float),
        help="close a connection with 1011 if nothing comes for S seconds after a ping"
        " (connections.ping_timeout_s)",
    )
    add(
        "--defect",
        metavar="NAME",
        action="append",
        default=[],
        help="put a bug in, on purpose, to see who notices; docs/defects.md has them",
    )


if __name__ == "__main__":
    sys.exit(main())
