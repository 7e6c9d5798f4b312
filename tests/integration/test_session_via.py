"""Sessions whose TCP connection goes elsewhere than their URL says; on real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request

from harness.address import Address
from harness.dialects.plain import Plain
from harness.errors import TargetRefused
from harness.run.store import HistoryWriter
from tests.integration.daemons import WELCOME, bare, say, speaking
from tests.integration.sessions import Frame, echo, ops, refusal, session

# Nobody listens there, and nobody needs to.
NOWHERE = "ws://127.0.0.1:1/ws"


def address_in(url: str) -> Address:
    return Address("127.0.0.1", int(url.rpartition(":")[2]))


async def test_the_connection_goes_there_and_the_request_stays():
    """
    Host and path are those of the URL; the URL's own port is never tried.
    """
    seen: list[Request] = []

    def look(connection: ServerConnection, request: Request) -> None:
        seen.append(request)

    async with (
        speaking(echo, process_request=look) as url,
        session(f"{NOWHERE}?a=1", via=address_in(url)) as opened,
    ):
        reply = await opened.call("echo", {"text": "a"})

    (request,) = seen
    assert reply.text == "a"
    assert (request.headers["Host"], request.path) == ("127.0.0.1:1", "/ws?a=1")


async def test_a_name_is_not_resolved():
    """
    It belongs to the daemon, and what stands before it has the address.
    """
    seen: list[Request] = []

    def look(connection: ServerConnection, request: Request) -> None:
        seen.append(request)

    options = {"allow_remote": True}
    async with (
        speaking(echo, process_request=look) as url,
        session("ws://no-such-host.invalid/", via=address_in(url), **options),
    ):
        pass

    assert seen[0].headers["Host"] == "no-such-host.invalid"


async def test_both_addresses_are_told(tmp_path: Path):
    """
    In the session's name, on record, and in an error.
    """
    with HistoryWriter(tmp_path / "history.jsonl") as history:
        async with speaking(echo) as url:
            through = address_in(url)
            async with session(NOWHERE, via=through, recorder=history) as opened:
                shown = repr(opened)
        error = await refusal(NOWHERE, via=through)
        invoke = ops(history, "open")[0]

    said = f"{NOWHERE} through {through}"
    assert said in shown
    assert invoke.value == {"url": said}
    assert (error.kind, dict(error.details)["address"]) == ("refused", said)


@pytest.mark.parametrize(
    ("url", "host", "what"),
    [(NOWHERE, "0.0.0.0", "proxy"), ("ws://192.0.2.1/", "127.0.0.1", "daemon")],
)
async def test_either_address_of_another_machine_is_refused(url: str, host: str, what: str):
    """
    Before a packet leaves, and without leave only.
    """
    async with speaking(echo) as server:
        via = Address(host, address_in(server).port)
        with pytest.raises(TargetRefused, match=f"{what} .* is not a loopback address"):
            await session(url, via=via).__aenter__()

        async with session(url, via=via, allow_remote=True) as opened:
            assert (await opened.call("echo", {"text": "a"})).text == "a"


async def test_promises_are_those_it_is_said_to_make():
    """
    Where its welcome says nothing, and where there is none.
    """
    async with speaking(echo) as url, session(url, promises=["keys"]) as opened:
        assert opened.welcome is not None
        assert opened.welcome.promises == ("keys",)
        assert opened.welcome.session_id == "s1"

    async with (
        bare(lambda connection, message: connection.send(message)) as url,
        session(url, dialect=Plain(), promises=("keys", "order")) as opened,
    ):
        assert opened.welcome is not None
        assert opened.welcome.promises == ("keys", "order")


async def test_the_daemons_own_promises_count():
    """
    What others say of it does not add to them.
    """

    async def greet(connection: ServerConnection, frame: Frame) -> None:
        await say(connection, WELCOME | {"promises": ["own"]})

    async with speaking(echo, hello=greet) as url, session(url, promises=["said"]) as opened:
        assert opened.welcome is not None
        assert opened.welcome.promises == ("own",)
