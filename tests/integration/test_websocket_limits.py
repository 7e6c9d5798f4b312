"""
What the daemon refuses above its limits, on every ground: honestly, at once, and no longer than it
must.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from harness.clock import now
from tests.integration.changing import setting
from tests.integration.metered import Client, Tally, outcome_of, put_away
from tests.integration.proxy_process import eventually
from tests.integration.refdaemon_process import CONTINUATION, TEXT, TOKEN, Peer
from tests.integration.standing import Stand, Standing, on_usual_grounds

pytestmark = on_usual_grounds

_LONG_MS = 600_000


def limits(**values: Any) -> tuple[str, ...]:
    """Options that set keys of the section admission."""
    return setting(**{f"admission__{name}": value for name, value in values.items()})


def refusal(answer: dict[str, Any]) -> dict[str, Any]:
    """The details of an OVER_CAPACITY, which carries the id of what it refuses."""
    assert (answer["ok"], answer["error"]["code"]) == (False, "OVER_CAPACITY"), answer
    assert "began_ns" not in answer
    details: dict[str, Any] = answer["error"]["details"]
    assert str(details["allowed"]) in answer["error"]["message"]
    return details


@asynccontextmanager
async def crowd(daemon: Standing, count: int, **hello: Any) -> AsyncIterator[list[Peer]]:
    """So many peers, welcomed."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(daemon.peer(**hello)) for _ in range(count)]


# ---- connections and sessions


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        (("--max-connections", "3"), "max_connections"),
        (limits(max_connections_per_address=3), "max_connections_per_address"),
    ],
    ids=["all", "one address"],
)
async def test_a_connection_too_many_is_closed_and_its_place_comes_back(
    stand: Stand, options: tuple[str, ...], limit: str
) -> None:
    """
    However those before it end: by a close frame, FIN, or RST.
    """
    async with stand(*options) as daemon, put_away(Tally()) as tally, crowd(daemon, 2):
        for n, end in enumerate(("close", "leave", "break_off")):
            last = Client(daemon.port, f"client-{n}", tally)
            await last.connect()
            async with daemon.connected() as more:
                assert await more.close_code() == 1008
            await getattr(last, end)()
            await eventually(daemon.status, lambda status: status["connections"] == 2)
        async with daemon.peer() as again:
            assert (await again.call("1", "echo", text="in"))["ok"]
        met = (await daemon.status())["limits_met"]

    assert met[limit] >= 3


async def test_a_session_too_many_is_told_so_and_its_place_comes_back(stand: Stand) -> None:
    """
    By a word in the answer to its hello; a session that returns needs no new place.
    """
    async with stand(*limits(max_sessions=2)) as daemon, daemon.peer():
        async with daemon.peer(session_id="second"):
            async with daemon.connected() as more:
                answer = await more.ask(op="hello", token=TOKEN)
                assert (answer["ok"], answer["error"]) == (False, "too_many_sessions")
                assert await more.close_code() == 1008
            async with daemon.peer(session_id="second") as taking_over:
                assert (await taking_over.call("1", "echo", text="in"))["ok"]
        await eventually(daemon.status, lambda status: status["sessions"] == 1)
        async with daemon.peer() as other:
            assert (await other.call("1", "echo", text="in"))["ok"]


# ---- calls at a time


@pytest.mark.parametrize(
    ("options", "limit", "allowed"),
    [
        (limits(max_inflight=6, max_inflight_per_session=6), "max_inflight", 6),
        (limits(max_inflight_per_session=3), "max_inflight_per_session", 3),
    ],
    ids=["all", "one session"],
)
async def test_a_call_too_many_is_refused_at_once(
    stand: Stand, options: tuple[str, ...], limit: str, allowed: int
) -> None:
    """
    It has no effect, and those that run do not notice; nobody can say when there will be room.
    """
    async with stand(*options) as daemon, daemon.peer() as peer, daemon.peer() as other:
        for n in range(allowed):
            # Of all together others' count, too.
            whose = other if limit == "max_inflight" and n % 2 else peer
            await whose.send(
                op="call_tool", request_id=f"s{n}", name="sleep", arguments={"ms": 1500}
            )
        await eventually(daemon.status, lambda status: status["permits"]["in_use"] == allowed)
        began = now()
        refused = [await peer.call(f"r{n}", "sleep", ms=1) for n in range(3)]
        took_s = now() - began
        # What needs no place is not refused.
        echoed = await peer.call("e", "echo", text="x")
        slept = [(await peer.receive())["ok"]]
        effects = {effect.request_id for effect in daemon.effects()}

    assert [answer["request_id"] for answer in refused] == ["r0", "r1", "r2"]
    for answer in refused:
        assert refusal(answer) == {
            "limit": limit,
            "found": allowed + 1,
            "allowed": allowed,
            "retry_after_s": None,
        }
    assert took_s < 1.5
    assert (echoed["ok"], slept) == (True, [True])
    assert not effects & {"r0", "r1", "r2"}


async def test_whoever_has_an_answer_may_call_again_at_once(stand: Stand) -> None:
    """
    A client that never has more under way than may be is never refused, however quick it is.
    """
    options = limits(max_inflight=4, max_inflight_per_session=4)
    async with stand(*options) as daemon, put_away(Tally()) as tally:
        client = Client(daemon.port, "client", tally)
        await client.connect()

        async def one_after_another() -> None:
            for _ in range(60):
                assert outcome_of(await client.call("sleep", {"ms": 0})) == "executed"

        await asyncio.gather(*(one_after_another() for _ in range(4)))

    assert tally.calls == {"executed": 240}


@pytest.mark.parametrize("how", ["cancel", "timeout_ms", "fail"])
async def test_a_place_comes_back_however_a_call_ends(stand: Stand, how: str) -> None:
    """
    Cancelled, timed out, or done with its connection gone.
    """
    options = limits(max_inflight=1, max_inflight_per_session=1)
    async with stand(*options) as daemon, daemon.peer() as peer:
        more = {"timeout_ms": 50} if how == "timeout_ms" else {}
        arguments = {"ms": 100 if how == "fail" else _LONG_MS}
        async with daemon.peer() as other:
            await other.send(
                op="call_tool", request_id="1", name="sleep", arguments=arguments, **more
            )
            if how == "cancel":
                await other.ask(op="cancel", request_id="1")
            elif how == "timeout_ms":
                assert (await other.receive())["error"]["code"] == "TIMEOUT"
        await eventually(daemon.status, lambda status: status["permits"]["in_use"] == 0)
        assert (await peer.call("2", "sleep", ms=1))["ok"]


# ---- messages a second


RATES = {"all": "", "one address": "_per_address", "one session": "_per_session"}
BURST = 8


def _rate(of: str, per_s: float) -> tuple[str, ...]:
    values = {f"messages_per_s{of}": per_s, f"burst_messages{of}": BURST}
    if not of:
        # A part may not have more than the whole.
        for part in ("_per_address", "_per_session"):
            values |= {f"messages_per_s{part}": "none", f"burst_messages{part}": BURST}
    return limits(**values)


@pytest.mark.parametrize("which", RATES)
async def test_whoever_waits_as_long_as_it_is_told_is_let_in(stand: Stand, which: str) -> None:
    """
    A burst passes; what is beyond it is refused with a wait, and after it one message passes, again
    and again.
    """
    of = RATES[which]
    async with stand(*_rate(of, 4)) as daemon, daemon.peer() as peer:
        answers = [await peer.call(str(n), "echo", text="x") for n in range(BURST * 3)]
        first = next(n for n, answer in enumerate(answers) if not answer["ok"])
        details = refusal(answers[-1])
        for n in range(4):
            # It is the wait that is tested: nothing tells when it is over.
            await asyncio.sleep(details["retry_after_s"])
            assert (await peer.call(f"again-{n}", "echo", text="x"))["ok"]
            details = refusal(await _until_refused(peer, f"more-{n}"))

    # While they are sent some tokens come in.
    assert BURST <= first < BURST * 3
    assert (details["limit"], details["allowed"]) == (f"burst_messages{of}", BURST)
    assert 0 < details["retry_after_s"] <= 1 / 4
    assert details["found"] > BURST


async def _until_refused(peer: Peer, name: str) -> dict[str, Any]:
    for n in range(BURST * 3):
        answer = await peer.call(f"{name}-{n}", "echo", text="x")
        if not answer["ok"]:
            return answer
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize("which", RATES)
async def test_a_rate_is_of_those_whom_it_is_for(stand: Stand, which: str) -> None:
    """
    One that is above it costs others nothing, where it is its own; all have one address here.
    """
    of = RATES[which]
    async with stand(*_rate(of, 0.5)) as daemon, daemon.peer() as peer, daemon.peer() as other:
        await _until_refused(peer, "loud")
        answer = await other.call("1", "echo", text="x")

    assert answer["ok"] == (of == "_per_session")


async def test_what_is_no_call_is_refused_by_an_error_with_its_id(stand: Stand) -> None:
    """
    Each counts as a message; none has an effect, and the connection stays.
    """
    options = limits(messages_per_s_per_session=0.5, burst_messages_per_session=1)
    frames = [
        {"op": "ping", "request_id": "p"},
        {"op": "list_tools", "request_id": "l"},
        {"op": "health", "request_id": "h"},
        {"op": "cancel", "request_id": "c"},
    ]
    async with stand(*options) as daemon, daemon.peer() as peer:
        assert (await peer.ask(op="ping", request_id="first"))["op"] == "pong"
        answers = [await peer.ask(**frame) for frame in frames]
        status = await daemon.status()

    assert [(answer["op"], answer["request_id"]) for answer in answers] == [
        ("error", frame["request_id"]) for frame in frames
    ]
    for answer in answers:
        assert answer["error"]["code"] == "OVER_CAPACITY"
        assert 0 < answer["error"]["details"]["retry_after_s"] <= 2
    assert status["counters"]["messages_limited"] == 4


# ---- sizes


async def test_a_call_too_large_is_refused_and_its_connection_stays(stand: Stand) -> None:
    """
    One that is just so large is let in; of one byte more it is said how large it was.
    """
    frame = {"op": "call_tool", "request_id": "large", "name": "echo", "arguments": {"text": ""}}
    empty = len(json.dumps(frame))
    for most in (1_000, 200_000):
        async with (
            stand("--set", f"server.max_call_bytes={most}") as daemon,
            daemon.peer() as peer,
        ):
            answers = [
                await peer.call("large", "echo", text="x" * (most - empty + more))
                for more in (1, 0, 1_000)
            ]
            assert (await peer.call("small", "echo", text="x"))["ok"]
            assert [effect.request_id for effect in daemon.effects()] == ["large", "small"]

        assert [answer["ok"] for answer in answers] == [False, True, False]
        for answer, found in ((answers[0], most + 1), (answers[2], most + 1_000)):
            details = refusal(answer)
            assert answer["request_id"] == "large"
            assert (details["limit"], details["found"], details["allowed"]) == (
                *("max_call_bytes", found, most),
            )


def echo(request_id: str, size: int) -> bytes:
    """A call of echo, as a message."""
    call = {"op": "call_tool", "request_id": request_id, "name": "echo"}
    return json.dumps({**call, "arguments": {"text": "x" * size}}).encode()


def in_pieces(peer: Any, message: bytes, pieces: int) -> None:
    """Send a message in so many fragments."""
    step = -(-len(message) // pieces)
    for at in range(0, len(message), step):
        last = at + step >= len(message)
        peer.send(CONTINUATION if at else TEXT, message[at : at + step], fin=last)


@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_hello_that_is_large_is_not_read(stand: Stand, pieces: int) -> None:
    """
    Whoever has shown no token needs no 64 KiB to do so, be it the right one.
    """
    async with stand() as daemon:
        for size, welcome in ((60_000, True), (70_000, False)):
            hello = json.dumps({"op": "hello", "token": TOKEN})[:-1].ljust(size) + "}"
            async with daemon.raw(hello=False) as peer:
                in_pieces(peer, hello.encode(), pieces)
                _, answer = await peer.receive()
                assert json.loads(answer)["ok"] is welcome
                if not welcome:
                    assert await peer.close_code() == 4000


async def test_a_call_too_large_is_refused_in_pieces_too(stand: Stand) -> None:
    """
    By its beginning, by its whole length.
    """
    async with (
        stand("--set", "server.max_call_bytes=100000") as daemon,
        daemon.raw() as peer,
    ):
        in_pieces(peer, echo("large", 200_000), 7)
        _, payload = await peer.receive()
        in_pieces(peer, echo("small", 90_000), 7)
        _, small = await peer.receive()
        assert [effect.request_id for effect in daemon.effects()] == ["small"]

    answer = json.loads(payload)
    assert (answer["request_id"], answer["ok"]) == ("large", False)
    assert refusal(answer)["found"] == len(echo("large", 200_000))
    assert json.loads(small)["ok"]


async def test_large_messages_of_one_are_paced_and_nobody_else_waits(stand: Stand) -> None:
    """
    As many bytes a second as may be, over several messages; another's calls are answered meanwhile.
    """
    size, count, rate = 100_000, 12, 800_000
    async with (
        stand(*limits(large_bytes_per_s=rate)) as daemon,
        daemon.peer() as quick,
        daemon.raw() as peer,
    ):
        began = now()
        for n in range(count):
            call = {"op": "call_tool", "request_id": str(n), "name": "echo"}
            message = json.dumps({**call, "arguments": {"text": "x" * size}}).encode()
            peer.send(TEXT, message)
        calls = Counter[bool]()
        while (await quick.health())["counters"]["calls_executed"] < count:
            calls[(await quick.call(f"q{calls.total()}", "fail", message="x"))["ok"]] += 1
        took_s = now() - began

    # One read may bring some of them, and what it brought is handed over.
    assert took_s >= size * count / rate / 2
    assert calls.total() > 10
