"""A stack brought up by hand: it says where everything is, and stays until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from harness.address import Address, address_of_url, refuse_remote
from harness.daemons.base import Daemon
from harness.dialects.exai import Exai
from harness.dialects.plain import Plain
from harness.environment.backends import OWN_PROXIES, Choice, name_of_proxy, stack_of
from harness.environment.base import Environment
from harness.environment.clean_up import notes_of
from harness.environment.dialling import session_with
from harness.environment.parts import ANY_PORT
from harness.environment.stack import Stack
from harness.errors import (
    EXIT_FAILED,
    EXIT_VALID,
    CallError,
    ConnectFailed,
    EnvironmentFailed,
    InvalidValue,
    ProgramExited,
    ProxyError,
)
from harness.proxy.ports import Reservation, reason
from harness.run.store import RunDirectory

__all__ = ["up"]

_LOOK_S: Final = 0.2
_LOG_LINES: Final = 12
# What a person who harms the wire by hand may miss.
_TOLD: Final = ("rst", "live_rst", "events", "seed")
_LATE: Final = {"type": "latency", "attributes": {"latency": 200}}


async def up(
    daemon: Daemon, *, choice: Choice, seed: int, runs: Path, port: int = 0, api_port: int = 0
) -> int:
    """
    Bring daemon and proxy up, say where they are, put them away when asked to end.

    Args:
        daemon: Whom: started here, or attached where it has an address.
        choice: Where it runs, and behind what.
        seed: Root seed of the proxy's draws.
        runs: Where the run directory with record and logs is made.
        port: The port that clients connect to; 0 lets the system choose.
        api_port: The port of its proxy server's API, where that is started here; 0 lets the
            system choose.

    Returns:
        0, when it was asked to end (Ctrl-C, SIGTERM) and all was put away; 3 where not all was.

    Raises:
        HarnessError: If it cannot be brought up.
        ProgramExited: If daemon or proxy ends by itself.
    """
    _refuse_mistakes(daemon, proxy=choice.proxy, port=port, api_port=api_port)
    task = asyncio.current_task()
    assert task is not None
    # SIGINT cancels this task too; asyncio sees to that.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    secrets = [] if daemon.token is None else [daemon.token]
    with RunDirectory.create(runs, "up") as run, run.history(secrets=secrets) as history:
        print(f"harness up   seed {seed}   {run.path}", flush=True)
        stack = stack_of(
            daemon,
            choice=choice,
            directory=run.path,
            recorder=history,
            seed=seed,
            proxy_port=api_port,
        )
        environment = Environment(
            stack,
            owns=True,
            name=name_of_proxy(choice.proxy),
            listen=Address(ANY_PORT.host, port) if port else None,
            seed=seed,
        )
        try:
            async with environment:
                await stack.probe()
                run.write_json("environment.json", stack.describe(), secrets=secrets)
                call = await _call(environment)
                print("\n".join(_told(environment, run.path, call=call)), flush=True)
                await _until_something_ends(environment)
        except asyncio.CancelledError as asked:
            # Asked twice, it is the first time that has the notes.
            return _ended(notes_of(asked.__cause__ or asked))
    raise AssertionError("only an error or a signal ends it")


def _refuse_mistakes(daemon: Daemon, *, proxy: str, port: int, api_port: int) -> None:
    """What is wrong with the command line, before anything is made."""
    allow_remote = daemon.allow_remote
    if daemon.address is not None:
        refuse_remote(daemon.address, what="daemon", allow_remote=allow_remote)
    if proxy not in OWN_PROXIES:
        address = address_of_url(proxy, schemes=("http",))
        refuse_remote(address, what="proxy server", allow_remote=allow_remote)
        if api_port:
            raise InvalidValue(
                f"--api-port is for a proxy server of our own; {proxy} has its port already",
                [("next", "leave one of --proxy and --api-port out")],
            )
    _refuse_taken("--port", port)
    _refuse_taken("--api-port", api_port)


def _refuse_taken(option: str, port: int) -> None:
    if not port:
        return
    try:
        Reservation(ANY_PORT.host, port).close()
    except OSError as error:
        raise EnvironmentFailed(
            f"{option} {port} cannot be had: {reason(error)}",
            [("next", f"give another, or leave {option} out: then the system chooses one")],
        ) from None


async def _until_something_ends(environment: Environment) -> None:
    stack = environment.stack
    while True:
        _refuse_dead(stack)
        try:
            # What a proxy keeps of its events is bounded: take them as they come.
            if environment.stack.server.witness is not None:
                await environment.collect()
        except ProxyError:
            await asyncio.sleep(_LOOK_S)
            _refuse_dead(stack)
            raise
        await asyncio.sleep(_LOOK_S)


def _refuse_dead(stack: Stack) -> None:
    for name, part in stack.parts.items():
        if how := part.trouble:
            tail = "\n".join(part.written().splitlines()[-_LOG_LINES:]) or "(it wrote nothing)"
            log = stack.household.directory / f"{name}.log"
            raise ProgramExited(
                f"the {name} {how}, unasked",
                [("log tail", tail), ("next", f"{log} has the rest; all else was put away")],
            )


def _ended(trouble: list[str]) -> int:
    if not trouble:
        print("\nput away: nothing of ours is left", flush=True)
        return EXIT_VALID
    print("\n".join(["\nnot all could be put away:", *trouble]), file=sys.stderr)
    return EXIT_FAILED


async def _call(environment: Environment) -> str | None:
    """A command that calls the daemon; None where we know of none."""
    daemon, url = environment.stack.daemon, shlex.quote(environment.url)
    if daemon.tls or daemon.headers or daemon.subprotocols:
        return None
    if daemon.dialect == Plain():
        return f"{_command()} call --dialect plain hi --url {url}"
    if daemon.dialect != Exai():
        return None
    try:
        async with session_with(daemon, environment.stack.site.address, process="probe") as probe:
            tools = await probe.list_tools()
    except (ConnectFailed, CallError):
        return None
    if not any(tool.get("name") == "echo" for tool in tools):
        return None
    return f"{_command()} call echo {shlex.quote(json.dumps({'text': 'hi'}))} --url {url}"


def _told(environment: Environment, directory: Path, *, call: str | None) -> Iterator[str]:
    stack, api = environment.stack, environment.control.url
    daemon, name = stack.daemon, environment.name
    whose = "started here" if stack.site.own else "somebody else's, left as it is"
    served = f"{stack.server.backend}, started here"
    if not stack.server.own:
        served = f"{stack.server.backend}, somebody else's; ours there is {name}"
    places = [
        ("your clients", environment.url, _certificate(daemon)),
        ("the daemon", environment.daemon_url, f"{daemon.type}, {whose}"),
        ("the proxy", api, served),
    ]
    if (behind := stack.behind) is not None:
        note = f"started here; before it the proxy {behind.hop.proxy}"
        places.append(("its provider", environment.provider_url, note))
    wide = max(len(url) for _, url, _ in places)
    yield ""
    for label, url, note in places:
        yield _row(label, f"{url:{wide}}   {note}")
    lacking: dict[str, list[str]] = {}
    for ability in _TOLD:
        if why := environment.abilities[ability]:
            lacking.setdefault(why, []).append(ability)
    for why, abilities in lacking.items():
        yield _row("without", f"{', '.join(abilities)}: {why}")
    yield ""
    if call is not None:
        yield _row("call it", call)
        if daemon.token is not None:
            yield _row("", "(the daemon's token in EXAI_WS_TOKEN)")
    yield from _hints(environment, directory)
    yield ""
    yield "Ctrl-C ends it and puts everything away."


def _certificate(daemon: Daemon) -> str:
    if not daemon.tls:
        return ""
    name = "127.0.0.1" if daemon.address is None else daemon.address.host
    return f"TLS passes through: the certificate is the daemon's, for {name}"


def _hints(environment: Environment, directory: Path) -> Iterator[str]:
    api, name, harness = environment.control.url, environment.name, _command()
    at = f"--api {api}" if environment.stack.server.own else f"--api {api} --proxy {name}"
    yield _row("late replies", f"{harness} toxic add latency latency_ms=200 {at}")
    yield _row("what is on", f"{harness} toxic list {at}")
    yield _row("take it off", f"{harness} toxic remove latency_downstream {at}")
    yield _row("more", f"{harness} toxic add --help")
    if environment.stack.server.witness is not None:
        yield _row("what happened", f"{harness} show {shlex.quote(str(directory))}")
    yield ""
    body = shlex.quote(json.dumps(_LATE))
    yield _row("late by curl", f"curl -d {body} {api}/proxies/{name}/toxics")
    address = address_of_url(api, schemes=("http",))
    yield _row("by Python", "from toxiproxy import Toxiproxy  # pip install toxiproxy-python")
    yield _row("", "toxiproxy = Toxiproxy()")
    yield _row("", f'toxiproxy.update_api_consumer("{address.host}", {address.port})')
    late = f"type={_LATE['type']!r}, attributes={_LATE['attributes']!r}".replace("'", '"')
    yield _row("", f'toxiproxy.get_proxy("{name}").add_toxic({late})')


def _row(label: str, text: str) -> str:
    return f"  {label:14}  {text}".rstrip()


def _command() -> str:
    """How this program was started, as a person would type it."""
    started, found = Path(sys.argv[0]), shutil.which("harness")
    if found is not None and started.exists() and started.samefile(found):
        return "harness"
    if started.name == "harness":
        return shlex.quote(str(started))
    return f"{shlex.quote(sys.executable)} -m harness"
