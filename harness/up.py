"""A stack brought up by hand: it says where everything is, and stays until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from harness.address import Address, address_of_url
from harness.daemons.base import Daemon
from harness.environment.backends import stack_of
from harness.environment.base import Environment
from harness.errors import EXIT_VALID, ProgramExited
from harness.run.store import RunDirectory

__all__ = ["up"]

_LOOK_S: Final = 0.2
_CALLS: Final[Mapping[str, Callable[[str], str]]] = {
    "exai": lambda url: f"{url} echo {shlex.quote(json.dumps({'text': 'hi'}))}",
    "plain": lambda url: f"--dialect plain {url} hi",
}


async def up(
    daemon: Daemon, *, proxy: str, seed: int, runs: Path, api_port: int = 0, port: int = 0
) -> int:
    """
    Bring daemon and proxy up, say where they are, put them away when asked to end.

    Args:
        daemon: Whom: started here, or attached where it has an address.
        proxy: "embedded", or the URL of a Toxiproxy's API.
        seed: Root seed of the proxy's draws.
        runs: Where the run directory with record and logs is made.
        api_port: The port of our proxy's API; 0 lets the system choose.
        port: The port that clients connect to; 0 lets the system choose.

    Returns:
        0, when it was asked to end (Ctrl-C, SIGTERM).

    Raises:
        HarnessError: If it cannot be brought up.
        ProgramExited: If daemon or proxy ends by itself.
    """
    task = asyncio.current_task()
    assert task is not None
    # SIGINT cancels this task too; asyncio sees to that.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    secrets = [] if daemon.token is None else [daemon.token]
    with RunDirectory.create(runs, "up") as run, run.history(secrets=secrets) as history:
        stack = stack_of(
            daemon,
            proxy=proxy,
            directory=run.path,
            recorder=history,
            seed=seed,
            proxy_port=api_port,
        )
        environment = Environment(
            stack, owns=True, listen=Address("127.0.0.1", port), seed=seed, recorder=history
        )
        try:
            async with environment:
                await stack.probe()
                run.write_json("environment.json", stack.describe(), secrets=secrets)
                print("\n".join(_told(environment, seed, run.path)), flush=True)
                await _until_something_ends(environment)
        except asyncio.CancelledError:
            print("\nput away: nothing of it is left running", flush=True)
    return EXIT_VALID


async def _until_something_ends(environment: Environment) -> None:
    stack = environment.stack
    while True:
        for name, part in (("daemon", stack.site), ("proxy", stack.server)):
            if part.trouble is not None:
                tail = "\n".join(part.written().splitlines()[-12:]) or "(it wrote nothing)"
                raise ProgramExited(f"the {name} {part.trouble} by itself", [("log tail", tail)])
        # What the proxy keeps of its events is bounded: take them as they come.
        await environment.collect()
        await asyncio.sleep(_LOOK_S)


def _told(environment: Environment, seed: int, directory: Path) -> Iterator[str]:
    stack = environment.stack
    daemon, api = stack.daemon, stack.control.url
    whose = "" if stack.site.own else "   (somebody else's: left as it is)"
    yield f"harness up   seed {seed}   {directory}"
    yield ""
    yield f"  your clients    {environment.url}"
    yield f"  the daemon      {environment.daemon_url}   ({daemon.type}){whose}"
    yield f"  the proxy       {api}   ({stack.server.backend}, its name there: {environment.name})"
    for name, why in stack.abilities.items():
        if why is not None and name not in ("frames", "docker"):
            yield f"  without {name:7} {why}"
    yield ""
    if daemon.dialect.name in _CALLS:
        yield f"  call it         harness call {_CALLS[daemon.dialect.name](environment.url)}"
    yield f"  late replies    harness toxic add latency latency_ms=200 {_at(environment)}"
    yield f"  what is on      harness toxic list {_at(environment)}"
    yield f"  take it off     harness toxic remove latency_downstream {_at(environment)}"
    body = shlex.quote('{"type": "latency", "attributes": {"latency": 200}}')
    yield f"  by curl         curl -d {body} {api}/proxies/{environment.name}/toxics"
    address = address_of_url(api, schemes=("http",))
    yield (
        "  by Python       "
        f'toxiproxy.Toxiproxy().update_api_consumer("{address.host}", {address.port})'
    )
    if environment.abilities.get("events") is None:
        yield f"  what happened   curl {api}/harness/events"
    yield ""
    yield "Ctrl-C ends it and puts everything away."


def _at(environment: Environment) -> str:
    return f"--proxy {environment.name} --api {environment.control.url}"
