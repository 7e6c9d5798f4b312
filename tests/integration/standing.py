"""
The reference daemon with its monitor, on each ground: where it runs, and what stands before it.

There are four, of two backends and two proxies. Behind the real Toxiproxy, which tells nothing of
its connections, stands a relay of ours that does.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from harness.address import Address, address_of_url
from harness.clock import fresh_id
from harness.daemons.reference import Reference
from harness.environment.attached import AttachedProxy
from harness.environment.backends import DOCKER, EMBEDDED, LOCAL, TOXIPROXY, Choice, stack_of
from harness.environment.base import Environment
from harness.environment.household import Household
from harness.environment.local import LocalProxy
from harness.environment.processes import Program, Reaper
from harness.environment.stack import Server
from harness.environment.tapped import Tapped
from harness.http.client import Answer, exchange
from harness.pytest_plugin.servants import Servants
from harness.records import ProxyEvent
from tests.grounds import stands_on
from tests.integration import foreign
from tests.integration.peers import assert_toxiproxy, prove_effects
from tests.integration.proxy_process import eventually
from tests.integration.refdaemon_process import PATIENCE_S, TOKEN, Daemon

__all__ = [
    "ADMIN",
    "GROUNDS",
    "Before",
    "Stand",
    "Standing",
    "before",
    "here_alone",
    "on_each_backend",
    "on_each_ground",
    "on_usual_grounds",
]

ADMIN: Final = "open-up-0815"
"""The token for changes of the configuration."""

GROUNDS: Final = (
    (LOCAL, EMBEDDED, "picows"),
    (LOCAL, EMBEDDED, "websockets"),
    (LOCAL, TOXIPROXY, "picows"),
    (DOCKER, TOXIPROXY, "picows"),
    (DOCKER, EMBEDDED, "picows"),
)
"""Backend, proxy and transport. What transports do alike in containers other tests show."""


def _on(*grounds: tuple[str, str, str]) -> pytest.MarkDecorator:
    names = ("backend", "proxy", "transport")
    return pytest.mark.parametrize(names, grounds, indirect=["backend", "proxy"], scope="session")


on_each_ground = _on(*GROUNDS)
on_usual_grounds = _on(*GROUNDS[:-1])
"""Both backends and both proxies, without the pair of which others show that it is no other."""
on_each_backend = _on((LOCAL, EMBEDDED, "picows"), (DOCKER, TOXIPROXY, "picows"))
"""For what has nothing to do with what stands before the daemon."""
here_alone = _on((LOCAL, EMBEDDED, "picows"))
"""For what only a process of this machine shows."""

_MOST_BYTES: Final = 64 << 20
_INSIDE: Final = "/harness"
_MONITOR_PORT: Final = 8090


class Before:
    """
    What the daemons of all tests on one ground stand behind, and on.

    Args:
        choice: Which ground.
        real: The real Toxiproxy as a process; None: what the choice says.
    """

    def __init__(self, choice: Choice, servants: Servants, *, real: Server | None) -> None:
        self.choice = choice
        self.servants = servants
        self._real = real

    @property
    def built_here(self) -> bool:
        """Whether the real Toxiproxy is a program of this machine."""
        return self._real is not None

    async def server(self) -> Server:
        """The proxy server, not necessarily up."""
        return self._real or await self.servants.get(self.choice, allow_remote=False)


@contextmanager
def before(backend: str, proxy: str) -> Iterator[Before]:
    """Whatever a ground needs beside the daemon, ended at last."""
    reaper = Reaper()
    servants = Servants(reaper)
    choice = Choice(backend=backend, proxy=proxy)
    with ExitStack() as ends:
        ends.callback(reaper.dismiss)
        ends.callback(lambda: asyncio.run(servants.dismiss_all()))
        real: Server | None = None
        if (backend, proxy) == (LOCAL, TOXIPROXY) and foreign.binary():
            url = ends.enter_context(foreign.real_server("-proxy-metrics")).url
            household = Household(reaper=reaper)
            household.open()
            real = Tapped(AttachedProxy(url, household), LocalProxy(household, log="tap.log"))
            ends.callback(lambda: asyncio.run(household.close(real.end())))
        yield Before(choice, servants, real=real)


class Standing(Daemon):
    """
    A running daemon, reached through the proxy before it.

    Attributes:
        here: The proxy and what is put on it.
        monitor: Where the monitor is, past any proxy.
        config_file: The daemon's file of configuration, as it is seen from here.
    """

    def __init__(self, here: Environment, monitor: Address, config_file: Path) -> None:
        effects = here.stack.site.effects_file
        assert effects is not None
        super().__init__(Path(), effects, here.url.rstrip("/"))
        self.here = here
        self.monitor = monitor
        self.config_file = config_file

    @property
    def said(self) -> str:
        """The daemon's log."""
        return self.here.stack.site.written()

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = None
    ) -> Answer:
        """Ask the monitor."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}".strip()}
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        async with asyncio.timeout(PATIENCE_S):
            return await exchange(
                self.monitor, method, path, body=data, headers=headers, max_bytes=_MOST_BYTES
            )

    async def status(self) -> dict[str, Any]:
        """All the monitor knows."""
        return json.loads((await self.ask("GET", "/status")).body)

    async def events(self, *kinds: str) -> list[dict[str, Any]]:
        """What happened so far, of these kinds."""
        lines = (await self.ask("GET", "/events?follow=0")).body.splitlines()
        events = [json.loads(line) for line in lines]
        assert "lost" not in {event["kind"] for event in events}
        return [event for event in events if event["kind"] in kinds]

    async def value(self, name: str) -> tuple[Any, str]:
        """The value of a key that holds, and where it came from."""
        shown = (await self.status())["config"][name]
        return shown["value"], shown["origin"]

    async def hang_up(self) -> None:
        """Have it read its configuration again (SIGHUP), and wait until it has."""
        before = len(await self.events("configuration applied", "configuration refused"))
        self.signal()
        await eventually(
            lambda: self.events("configuration applied", "configuration refused"),
            lambda events: len(events) > before,
        )

    def signal(self) -> None:
        """Send it SIGHUP."""
        program = self.here.stack.site.program
        if isinstance(program, Program):
            os.kill(program.pid, signal.SIGHUP)
        else:
            code, said = program.box.execute(["sh", "-c", "kill -HUP 1"])  # type: ignore[attr-defined]
            assert code == 0, said

    def configure(self, text: str) -> None:
        """Put another file in the place of its configuration, at once and whole."""
        draft = self.config_file.with_suffix(".new")
        draft.write_text(text)
        draft.replace(self.config_file)

    async def proxied(self, *kinds: str) -> list[ProxyEvent]:
        """What the proxy next to the daemon told of its connections, of these kinds."""
        await self.here.collect()
        return [event for event in self.here.events if event.kind in kinds]


class Stand:
    """
    Brings up daemons on a ground.

    Args:
        folder: Where their files go.
        transport: Which library they speak WebSocket by.
        before: What they stand behind.
    """

    def __init__(self, folder: Path, transport: Any, before: Before) -> None:
        self._folder = folder
        self._transport = transport
        self._before = before

    @asynccontextmanager
    async def __call__(
        self,
        *options: str,
        config: str = "",
        daemon: type[Reference] = Reference,
        token: str | None = TOKEN,
        admin: str = ADMIN,
    ) -> AsyncIterator[Standing]:
        """
        A daemon.

        Args:
            options: More of its command line.
            config: Its file of configuration.
            daemon: What is started.
            token: What a hello must carry.
            admin: What a change of the configuration must carry.
        """
        choice, folder = self._before.choice, self._folder / fresh_id()
        boxed = choice.backend == DOCKER
        shared = folder / "effects" if boxed else folder
        shared.mkdir(parents=True)
        config_file = shared / "daemon.toml"
        config_file.write_text(config)
        server = await self._before.server()
        stack = stack_of(
            replace(
                _described(daemon, admin),
                transport=self._transport,
                token=token,
                options=(*_words(boxed, config_file), *options),
            ),
            choice=choice,
            directory=folder,
            server=server,
            network=await self._before.servants.network(choice),
        )
        async with Environment(stack, owns=True, name=f"edge-{fresh_id()}") as here:
            self._before.servants.prove(server)
            stands_on(choice.backend, choice.proxy)
            if choice.proxy == TOXIPROXY:
                url, built_here = server.control.url, self._before.built_here
                await asyncio.to_thread(assert_toxiproxy, url, built_here=built_here)
            standing = Standing(here, await _monitor(here, boxed=boxed), config_file)
            standing.started_with(options)
            yield standing
            prove_effects(here)


def _words(boxed: bool, config_file: Path) -> tuple[str, ...]:
    """Its file, and a monitor that is reached from here."""
    if boxed:
        file, port = f"{_INSIDE}/{config_file.name}", _MONITOR_PORT
        more: tuple[str, ...] = ("--set", "monitor.host=0.0.0.0")
    else:
        file, port, more = str(config_file), 0, ()
    return "--config", file, "--monitor-port", str(port), *more


def _described(daemon: type[Reference], admin: str) -> Reference:
    variables = {"EXAI_WS_ADMIN_TOKEN": admin}
    made = daemon(environment=variables)
    assert made.container is not None
    return replace(made, container=replace(made.container, environment=variables))


async def _monitor(here: Environment, *, boxed: bool) -> Address:
    if boxed:
        if here.stack.site.network.path != "bridge":  # type: ignore[attr-defined]
            pytest.skip("the monitor of a container is reached where its network is")
        return Address(here.stack.site.inner_address.host, _MONITOR_PORT)

    async def told() -> list[str]:
        return re.findall(r'\{"listening": "(http://[^"]+)"\}', here.stack.site.written())

    # A hello may be answered before it is told.
    urls = await eventually(told, bool)
    return address_of_url(urls[-1], schemes=("http",))
