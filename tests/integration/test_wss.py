"""Daemons behind wss://: TLS passes through the proxy, and what works on bytes works on it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request

from harness.daemons.command import Command
from harness.daemons.running import Running
from harness.dialects.plain import Plain
from harness.environment.backends import AttachedEnvironment
from harness.environment.local import LocalEnvironment
from harness.errors import CallUnknown, ConnectFailed, InvalidValue
from harness.faults.base import Fault, Target, fault
from harness.faults.latency import Latency
from harness.faults.reset_peer import ResetPeer
from harness.faults.timeout import Timeout
from tests.integration.daemons import answer, speaking
from tests.integration.sessions import Frame
from tests.integration.tls import Certificate, self_signed

SERVER = """
import asyncio, ssl, sys
from websockets.asyncio.server import serve

async def echo(connection):
    async for message in connection:
        await connection.send(message)

async def main(port, certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with serve(echo, "127.0.0.1", int(port), ssl=context) as server:
        await server.serve_forever()

asyncio.run(main(*sys.argv[1:]))
"""


@fault
class Torn(Fault):
    """A fault that would have to look into frames."""

    type: ClassVar[str] = "torn"
    needs: ClassVar[frozenset[str]] = frozenset({"frames"})

    async def inject(self, target: Target) -> None:
        """Never comes to it."""

    async def lift(self, target: Target) -> None:
        """Neither."""


@dataclass
class Secure:
    """
    A daemon of somebody else's, at wss://localhost.

    Attributes:
        names: What each connection asked for (SNI).
        requests: Each upgrade.
        calls: The texts it was called with.
    """

    url: str
    certificate: Certificate
    names: list[str | None] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    @property
    def running(self) -> Running:
        return Running.at(self.url, ca_file=self.certificate.file)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def daemon(certificate: Certificate) -> AsyncIterator[Secure]:
    """One that notes what reaches it."""
    made = Secure("", certificate)

    def look(connection: ServerConnection, request: Request) -> None:
        made.requests.append(request)

    async def echo(connection: ServerConnection, frame: Frame) -> None:
        made.calls.append(frame["arguments"]["text"])
        await answer(connection, frame, made.calls[-1])

    secure = {"ssl": certificate.server(made.names), "process_request": look}
    async with speaking(echo, **secure) as url:
        made.url = url.replace("ws://127.0.0.1", "wss://localhost") + "/mcp?v=2"
        yield made


@pytest.fixture
async def here(daemon: Secure) -> AsyncIterator[AttachedEnvironment]:
    """Our proxy before it."""
    async with AttachedEnvironment(daemon.running) as environment:
        yield environment


@pytest.fixture
def server(certificate: Certificate, tmp_path: Path) -> Command:
    """A daemon to be started that serves wss:// and speaks no language of its own."""
    (tmp_path / "server.py").write_text(SERVER)
    shown = (str(certificate.file), str(certificate.key))
    return Command(
        template=("{python}", "server.py", "{port}", *shown),
        directory=tmp_path,
        dialect=Plain(),
        tls=True,
        ca_file=certificate.file,
    )


async def test_name_host_and_path_are_the_daemons_own(
    here: AttachedEnvironment, daemon: Secure
) -> None:
    """Although the connection came through the proxy, which told of it."""
    async with here.client() as client:
        reply = await client.call("echo", {"text": "hi"})
    opened = [event for event in await here.collect() if event.kind == "opened"]

    authority = daemon.url.removeprefix("wss://").removesuffix("/mcp?v=2")
    seen = {(request.headers["Host"], request.path) for request in daemon.requests}
    assert reply.text == "hi"
    assert len(opened) == 1
    assert set(daemon.names) == {"localhost"}
    assert seen == {(authority, "/mcp?v=2")}


async def test_a_client_of_ones_own_finds_the_name_of_the_certificate(
    here: AttachedEnvironment, daemon: Secure
) -> None:
    """The address through the proxy keeps the daemon's name, so the certificate fits."""
    trusting = ssl.create_default_context(cafile=str(daemon.certificate.file))
    async with connect(here.url, ssl=trusting):
        pass

    assert here.url.startswith("wss://localhost:")
    assert here.url != daemon.url
    assert [event.kind for event in await here.collect()].count("opened") == 1


@pytest.mark.toxic("latency")
async def test_latency_delays_what_passes(here: AttachedEnvironment) -> None:
    """The reply is late."""
    async with here.client() as client, here.inject(Latency(latency_ms=150)):
        reply = await client.call("echo", {"text": "hi"})

    assert reply.elapsed_ms >= 150


@pytest.mark.toxic("reset_peer")
async def test_a_reset_arrives_as_one(here: AttachedEnvironment, daemon: Secure) -> None:
    """The daemon was called; the client sees RST instead of the reply."""
    async with here.client() as client, here.inject(ResetPeer(stream="downstream")):
        try:
            await client.call("echo", {"text": "hi"})
        except CallUnknown as error:
            known = error.kind
        else:
            known = "answered"
        ending = client.ending.kind

    assert (known, ending) == ("connection_lost", "reset")
    assert daemon.calls == ["hi"]


@pytest.mark.toxic("timeout")
async def test_a_black_hole_swallows_the_reply(here: AttachedEnvironment, daemon: Secure) -> None:
    """The daemon was called; nobody knows."""
    async with here.client() as client, here.inject(Timeout(stream="downstream")):
        with pytest.raises(CallUnknown) as lost:
            await client.call("echo", {"text": "hi"}, timeout_s=0.2)

    assert lost.value.kind == "time_limit"
    assert daemon.calls == ["hi"]


async def test_a_fault_in_frames_is_refused(here: AttachedEnvironment) -> None:
    """The proxy sees none, since TLS passes through it; the refusal says that."""
    with pytest.raises(InvalidValue, match="torn cannot be done here") as caught:
        here.inject(Torn())

    refusal = dict(caught.value.details)
    assert refusal["frames"] == "TLS passes through the proxy, which sees no frames"


async def test_a_daemon_that_nobody_vouches_for(daemon: Secure) -> None:
    """Its certificate is not trusted where ca_file is left out; the error names that."""
    with pytest.raises(ConnectFailed, match="certificate was not accepted") as caught:
        async with AttachedEnvironment(Running.at(daemon.url)):
            pass

    assert "ca_file=" in str(caught.value)


@pytest.mark.toxic("latency")
async def test_a_daemon_with_tls_that_is_started_here(server: Command) -> None:
    """At 127.0.0.1, which its certificate names too; harmed and killed like any other."""
    async with LocalEnvironment(server) as here:
        async with here.client() as client, here.inject(Latency(latency_ms=150)):
            late = await client.call("hi")
        await here.stack.site.kill()
        await here.heal()
        async with here.client() as client:
            again = await client.call("hi")

    assert late.elapsed_ms >= 150
    assert again.text == "hi"


async def test_a_certificate_that_is_not_accepted_is_not_waited_for(
    server: Command, tmp_path: Path
) -> None:
    """It will be no better in twenty seconds."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    strange = replace(server, ca_file=self_signed(elsewhere).file)

    with pytest.raises(ConnectFailed) as caught:
        async with LocalEnvironment(strange):
            pass

    assert caught.value.kind == "tls"
