"""Sessions over TLS, with a certificate of one's own; on real sockets."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request

from harness.errors import CallUnknown, InvalidValue
from tests.integration.daemons import end_with_fin, end_with_rst, raw, speaking
from tests.integration.sessions import Frame, echo, refusal, session
from tests.integration.tls import NAME, Certificate, relay, self_signed


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


def secure(url: str, host: str = "localhost") -> str:
    return url.replace("ws://127.0.0.1", f"wss://{host}")


async def test_a_session_over_tls(certificate: Certificate):
    """
    The certificate is trusted because the file says so.
    """
    async with (
        speaking(echo, ssl=certificate.server()) as url,
        session(secure(url), ca_file=certificate.file) as opened,
    ):
        assert (await opened.call("echo", {"text": "a"})).text == "a"

    assert (opened.ending.kind, opened.ending.code) == ("closed", 1000)


async def test_name_and_host_stay_those_of_the_url_through_a_relay(certificate: Certificate):
    """
    SNI, Host and the check of the certificate know nothing of the address in between.
    """
    asked: list[str | None] = []
    seen: list[Request] = []

    def look(connection: ServerConnection, request: Request) -> None:
        seen.append(request)

    async with (
        speaking(echo, ssl=certificate.server(asked), process_request=look) as url,
        relay(url) as (via, accepted),
    ):
        options: dict[str, Any] = {"via": via, "ca_file": certificate.file, "allow_remote": True}
        async with session(f"wss://{NAME}:8443/ws", **options) as opened:
            reply = await opened.call("echo", {"text": "a"})
        passed = len(accepted)

    assert (reply.text, passed) == ("a", 1)
    assert asked == [NAME]
    assert [(each.headers["Host"], each.path) for each in seen] == [(f"{NAME}:8443", "/ws")]


async def test_a_certificate_nobody_vouches_for(certificate: Certificate):
    """
    The system does not trust it: the error says what to give, and nothing stays behind.
    """
    async with speaking(echo, ssl=certificate.server()) as url:
        gc.collect()
        before = descriptors()
        error = await refusal(secure(url))
        after = await settled(before)

    assert error.kind == "tls"
    assert "certificate was not accepted: self" in error.headline
    assert "ca_file=" in dict(error.details)["next"]
    assert after <= before


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def settled(wanted: int) -> int:
    """How many descriptors are open once the server, too, has dropped its end."""
    async with asyncio.timeout(5):
        while descriptors() > wanted:
            await asyncio.sleep(0)
    return descriptors()


async def test_a_certificate_of_another_host(certificate: Certificate):
    """
    A trusted one is not enough; it must be made out to the URL's host, wherever `via` leads.
    """
    async with speaking(echo, ssl=certificate.server()) as url, relay(url) as (via, _):
        options: dict[str, Any] = {"via": via, "ca_file": certificate.file, "allow_remote": True}
        error = await refusal("wss://other.example/", **options)

    assert error.kind == "tls"
    assert "other.example" in error.headline


async def test_a_port_that_speaks_no_tls(certificate: Certificate):
    """
    The next step asks for that.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with raw(handle) as url:
        error = await refusal(secure(url), ca_file=certificate.file)

    assert error.kind == "tls"
    assert "does that port speak TLS?" in dict(error.details)["next"]


@pytest.mark.parametrize(("end", "kind"), [(end_with_rst, "reset"), (end_with_fin, "closed")])
async def test_an_end_in_the_middle_of_the_tls_handshake(
    certificate: Certificate, end: Callable[[asyncio.StreamWriter], None], kind: str
):
    """
    RST and FIN are told apart there too.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        end(writer)

    async with raw(handle) as url:
        assert (await refusal(secure(url), ca_file=certificate.file)).kind == kind


async def test_a_tls_handshake_that_is_never_answered(certificate: Certificate):
    """
    The time limit ends it, and the error says how far it may have come.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw(handle) as url:
        error = await refusal(secure(url), ca_file=certificate.file, open_timeout_s=0.05)

    assert error.kind == "timeout"
    assert "TLS handshake was not answered" in str(error)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize(("end", "kind"), [(end_with_rst, "reset"), (end_with_fin, "eof")])
def test_losses_are_told_apart_over_tls(
    certificate: Certificate,
    end: Callable[[ServerConnection], None],
    kind: str,
    run: Callable[[Any], None],
):
    """
    TLS hides neither an RST nor a FIN, on either loop.
    """

    async def lose(connection: ServerConnection, frame: Frame) -> None:
        end(connection)

    async def main() -> None:
        async with speaking(lose, ssl=certificate.server()) as url:
            async with session(secure(url), ca_file=certificate.file) as opened:
                with pytest.raises(CallUnknown):
                    await opened.call("echo")
            assert opened.ending.kind == kind

    run(main())


@pytest.mark.parametrize("file", ["missing.pem", "junk.pem", "."])
def test_certificates_that_cannot_be_read_are_refused_at_once(tmp_path: Path, file: str):
    """
    No loop is needed to see that.
    """
    (tmp_path / "junk.pem").write_text("no certificate")
    with pytest.raises(InvalidValue, match="no certificates can be read from") as caught:
        session("wss://localhost", ca_file=tmp_path / file)

    assert "PEM" in dict(caught.value.details)["next"]


async def test_a_session_without_tls_needs_no_certificates(certificate: Certificate):
    """
    They are for wss:// alone, so one setting does for a daemon of either kind.
    """
    async with speaking(echo) as url, session(url, ca_file=certificate.file) as opened:
        assert (await opened.call("echo", {"text": "a"})).text == "a"
