"""Failures of a daemon whose provider is slow or gone."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from harness.proxy.ports import Reservation
from tests.integration.failures import Case, failure, set_to, until
from tests.integration.provider_process import provider_process


@failure("deadline-ignored", above_transport=True)
async def test_f20_nobody_works_on_beyond_the_deadline(case: Case, tmp_path: Path):
    """
    The provider is told how long the caller waits: when that is over, it does not work.
    """
    async with (
        provider_process(tmp_path) as provider,
        case.daemon(tmp_path, "--provider", provider.url) as daemon,
        daemon.peer() as peer,
    ):
        reply = await peer.ask(
            op="call_tool",
            request_id="1",
            name="chat",
            arguments={"prompt": "why?", "delay_ms": 5000},
            timeout_ms=300,
        )
        seen = await provider.health()

    assert reply["error"]["code"] == "TIMEOUT"
    assert seen["requests"] > 0
    assert (seen["running"], seen["executions"]) == (0, 0)


@failure("stuck-breaker", above_transport=True)
async def test_f28_a_breaker_closes_again(case: Case, tmp_path: Path):
    """
    Opened by refused connections; once the provider is there and the time is over, calls go
    through.
    """
    settings = set_to(
        {
            "breaker.failures": 2,
            "breaker.open_s": 0.2,
            "breaker.successes": 1,
            "retry.attempts": 1,
        }
    )
    with closing(Reservation("127.0.0.1")) as place:
        async with (
            case.daemon(tmp_path, "--provider", f"http://{place.address}", *settings) as daemon,
            daemon.peer() as peer,
        ):
            replies = [await peer.call(f"early {n}", "chat", prompt="why?") for n in range(2)]
            opened = (await peer.health())["open_breakers"]
            async with provider_process(tmp_path, port=place.address.port):
                tried = iter(range(1_000_000))
                await until(
                    "a call goes through",
                    lambda: peer.call(f"late {next(tried)}", "chat", prompt="why?"),
                    lambda reply: reply["ok"],
                    within_s=2.5,
                )
                closed = (await peer.health())["open_breakers"]

    assert [reply["error"]["code"] for reply in replies] == ["PROVIDER_ERROR"] * 2
    assert (opened, closed) == (1, 0)
