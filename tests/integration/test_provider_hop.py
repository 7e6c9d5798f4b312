"""The hop from a daemon to its provider, on each backend: through a proxy, harmed and healed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.address import address_of_url
from harness.clock import now
from harness.daemons.reference import Reference, own_provider
from harness.environment.automatic import AUTO, Chosen, backend_for
from harness.environment.backends import DOCKER, EMBEDDED, LOCAL, Choice, engine, stack_of
from harness.environment.base import Environment
from harness.environment.reaper import carriers
from harness.errors import CallUnknown, InvalidValue, ProgramExited, StartTimeout
from harness.faults.down import Down
from harness.faults.kill import Kill
from harness.faults.latency import Latency
from harness.faults.pause import Pause
from harness.faults.reset_peer import ResetPeer
from harness.faults.restart import Restart
from harness.faults.stop import Stop
from harness.faults.timeout import Timeout
from harness.http.client import exchange
from tests.backends import CHOICES, in_containers
from tests.integration.behind import PATIENCE_S, asking, connected, provider
from tests.integration.proxy_process import eventually
from tests.integration.stacks import Place, remains

LATE_MS = 400
# A daemon, or a client of one that waits, for which what is late is not too late.
PATIENT_S = 10.0
# A network takes the engine a while.
GONE_WITHIN_S = 5.0
ROOT = Path(__file__).resolve().parents[2]

VICTIM = """
import asyncio, sys
from harness.environment.backends import stack_of
from tests.backends import CHOICES
from tests.integration.behind import asking

async def main():
    async with stack_of(asking(), choice=CHOICES[sys.argv[1]]) as stack:
        print(stack.run_id, flush=True)
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""


@pytest.fixture
async def here(backend: str, tmp_path: Path) -> AsyncIterator[Place]:
    """A daemon and its provider; nothing of either stays."""
    async with Place(tmp_path, asking(), CHOICES[backend]) as made:
        yield made
    assert remains(made.stack) == []


async def said(here: Environment, text: str = "hi") -> str:
    """What the daemon makes of a message."""
    async with here.client() as client:
        return (await client.call(text)).text


async def keys(here: Environment) -> list[str | None]:
    """Of what the provider did, in order."""
    return [execution.key for execution in here.executions()]


async def test_the_daemon_reaches_its_provider_through_the_proxy(here: Place):
    """
    The provider wrote down what it was asked, and the proxy before it saw the connection.
    """
    assert await said(here, "one") == "said one"

    assert [execution.key for execution in here.executions()] == ["one"]
    assert len(await connected(here)) == 1


async def test_latency_on_that_hop_is_the_providers_alone(backend: str, tmp_path: Path):
    """
    What the daemon asks its provider is late; what it answers by itself is not.
    """
    here = Place(tmp_path, asking(patience_s=PATIENT_S), CHOICES[backend])
    async with here, here.client() as client:
        async with here.inject(Latency(latency_ms=LATE_MS), hop="provider"):
            late = await client.call("hi")
            alone = await client.call("ping")
        after = await client.call("hi")

    assert (late.text, late.elapsed_ms >= LATE_MS) == ("said hi", True)
    assert alone.elapsed_ms < LATE_MS
    assert (after.text, after.elapsed_ms < LATE_MS) == ("said hi", True)
    assert remains(here.stack) == []


async def test_a_fault_on_the_edge_is_none_on_the_way_to_the_provider(here: Place):
    """
    The reply is lost to the client; the provider was asked all the same.
    """
    async with here.client() as client, here.inject(Timeout()):
        with pytest.raises(CallUnknown):
            await client.call("lost", timeout_s=LATE_MS / 1000)

    assert await eventually(lambda: keys(here), bool) == ["lost"]


async def test_down_refuses_the_daemon_and_opens_again(here: Place):
    """
    No request reaches the provider meanwhile, the client's own connection goes on.
    """
    async with here.client() as client:
        async with here.inject(Down(), hop="provider"):
            refused = await client.call("refused")
            alone = await client.call("ping")
        back = await client.call("back")

    assert "ConnectionRefused" in refused.text
    assert (alone.text, back.text) == ("ping", "said back")
    assert [execution.key for execution in here.executions()] == ["back"]


async def test_a_reset_on_that_hop_reaches_the_daemon_as_one(here: Place):
    """
    The daemon sees RST although the path to the client may carry none.
    """
    async with here.client() as client:
        async with here.inject(ResetPeer(), hop="provider"):
            reset = await client.call("hi")
        back = await client.call("back")

    assert "ConnectionReset" in reset.text
    assert back.text == "said back"


async def test_a_black_hole_on_that_hop_is_a_time_out_of_the_daemon(here: Place):
    """
    The provider did what it was asked; its answer is swallowed, and the daemon gives up.
    """
    async with here.client(call_timeout_s=PATIENT_S) as client:
        async with here.inject(Timeout(), hop="provider"):
            swallowed = await client.call("swallowed")
        back = await client.call("back")

    assert "timed out" in swallowed.text
    assert swallowed.elapsed_ms >= PATIENCE_S * 1000
    assert back.text == "said back"
    assert [execution.key for execution in here.executions()] == ["swallowed", "back"]


@pytest.mark.parametrize("fault", [Kill(), Stop(within_s=1)], ids=["kill", "stop"])
async def test_a_provider_that_is_gone_is_back_at_its_address(here: Place, fault: Kill | Stop):
    """
    The daemon runs on, asks in vain meanwhile, and finds it again where it was.
    """
    behind = here.stack.behind
    assert behind is not None
    async with here.client(call_timeout_s=PATIENT_S) as client:
        await client.call("first")
        async with here.inject(fault, hop="provider"):
            assert not behind.site.program.alive
            assert here.stack.site.program.alive
            assert (await client.call("lost")).text.startswith("failed: ")
        assert (await client.call("again")).text == "said again"

    # Where a proxy was still dialling a container that was gone, the lost one reaches the new.
    executions = [(each.key, each.sequence) for each in here.executions() if each.key != "lost"]
    # Another process, which counts anew, and writes on in the same log.
    assert [key for key, _ in executions] == ["first", "again"]
    assert [sequence for _, sequence in executions] in ([1, 1], [1, 2])


async def test_a_restarted_provider_is_another_process(here: Place):
    """
    Injecting returns when the new one is ready.
    """
    async with here.client() as client:
        await client.call("first")
        async with here.inject(Restart(within_s=1), hop="provider"):
            assert (await client.call("second")).text == "said second"

    assert [execution.sequence for execution in here.executions()] == [1, 1]


async def test_a_paused_provider_answers_nobody_and_goes_on(here: Place):
    """
    The daemon answers for itself meanwhile.
    """
    async with here.client(call_timeout_s=PATIENT_S) as client:
        async with here.inject(Pause(), hop="provider"):
            assert "timed out" in (await client.call("frozen")).text
            assert (await client.call("ping")).text == "ping"
        assert (await client.call("back")).text == "said back"


async def test_the_daemons_restart_keeps_its_provider(here: Place):
    """
    It is told the same address again.
    """
    async with here.inject(Restart(within_s=1)):
        assert await said(here) == "said hi"


async def test_heal_lifts_what_is_on_both_hops(here: Place):
    """
    Toxics, a closed link, a dead process: all of it is put right, wherever it was.
    """
    await here.inject(Latency(latency_ms=5_000)).__aenter__()
    await here.inject(Latency(latency_ms=5_000), hop="provider").__aenter__()
    await here.inject(Down(), hop="provider").__aenter__()
    await here.inject(Kill(), hop="provider").__aenter__()

    await here.heal()

    assert await said(here) == "said hi"
    proxies = await here.control.proxies()
    assert {name: (state.enabled, state.toxics) for name, state in proxies.items()} == {
        "edge": (True, []),
        "provider": (True, []),
    }


async def test_one_history_holds_both_hops(here: Place):
    """
    Faults say which hop they are on, and so do the events of its proxy.
    """
    async with here.client() as client:
        async with here.inject(Latency(latency_ms=1), hop="provider"):
            await client.call("hi")
        async with here.inject(Latency(latency_ms=1)):
            await client.call("ping")

    ops = here.history().ops
    on = [op.value.get("hop") for op in ops if (op.process, op.f) == ("nemesis", "latency")]
    assert on == ["provider"] * 2 + [None] * 2
    assert ("provider", "started") in {(op.process, op.f) for op in ops}
    told = [op.value.get("hop") for op in ops if (op.process, op.f) == ("proxy", "opened")]
    assert set(told) == {"provider", None}


async def test_its_address_past_the_proxy(here: Place):
    """
    Whoever asks there meets no fault.
    """
    where = address_of_url(here.provider_url, schemes=("http",))
    body = json.dumps({"prompt": "straight"}).encode()
    async with here.inject(Down(), hop="provider"):
        answer = await exchange(where, "POST", "/v1/chat", body=body, max_bytes=100)

    assert (answer.status, answer.body) == (200, b"said straight")


async def test_what_is_known_of_it_stands_in_the_description(here: Place):
    """
    Its command, its own address, its proxy's, and what can be done.
    """
    about = here.stack.describe()

    assert f"http://{about['provider']['address']}" == here.provider_url
    assert about["provider"]["proxy"] == "provider"
    assert about["provider"]["found_at"] in " ".join(about["daemon"]["command"])
    assert (about["abilities"]["provider"], about["abilities"]["executions"]) == (None, None)


async def test_a_second_environment_counts_its_own_executions(here: Place):
    """
    What was done before it was entered belongs to somebody else's record.
    """
    await said(here, "before")
    async with Environment(here.stack, name="other") as other:
        await said(other, "meanwhile")
        assert [execution.key for execution in other.executions()] == ["meanwhile"]

    assert set(await here.control.proxies()) == {"edge", "provider"}


async def test_a_provider_that_ends_is_told_of(backend: str, tmp_path: Path):
    """
    The daemon is not started then, and nothing is left.
    """
    words = ("-c", "print('no such model', flush=True); raise SystemExit(3)", "{port}")
    broken = provider(template=("{python}", *words))
    assert broken.container is not None
    inside = provider().container
    assert inside is not None
    broken = replace(broken, container=replace(inside, command=("python3", *words)))
    place = Place(tmp_path, asking(broken), CHOICES[backend])

    with pytest.raises(
        ProgramExited, match="the provider exited with 3 before it was ready"
    ) as caught:
        async with place:
            pass

    assert "no such model" in str(caught.value)
    assert "no such model" in caught.value.logs.get("provider.log", "no such model")
    assert not (tmp_path / "daemon.log").exists()
    assert remains(place.stack) == []


async def test_ready_is_an_answer_of_200(tmp_path: Path):
    """
    A path that it does not know is not ready, and the last answer is told.
    """
    behind = provider(ready_path="/ready", start_timeout_s=1)
    with pytest.raises(StartTimeout, match="the provider was not ready within 1 s") as caught:
        async with Place(tmp_path, asking(behind)):
            pass

    assert "status 404" in str(caught.value)


async def test_without_a_path_a_port_that_accepts_has_to_do(backend: str, tmp_path: Path):
    """
    For providers that speak no HTTP.
    """
    place = Place(tmp_path, asking(provider(ready_path=None)), CHOICES[backend])
    async with place:
        assert await said(place) == "said hi"


def test_nothing_survives_the_harness(backend: str):
    """
    It is killed; the provider, its proxy and its daemon are put away all the same.
    """
    command = [sys.executable, "-c", VICTIM, backend]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        run_id = victim.stdout.readline().strip()
        before = left_of(run_id, backend)
        victim.kill()

    deadline = now() + GONE_WITHIN_S
    while (left := left_of(run_id, backend)) and now() < deadline:
        os.sched_yield()
    # Two of them are no process of the daemon's.
    assert len(before) >= 3
    assert left == []


def left_of(run_id: str, backend: str) -> list[str]:
    """What carries a run's id, by name."""
    found = [f"process {pid}" for pid in carriers(run_id)]
    return found + (engine().left.remains(run_id) if backend == DOCKER else [])


async def test_our_own_provider_behind_another_daemon(backend: str, tmp_path: Path):
    """
    What it writes down can be read; a text that was asked twice has one digest.
    """
    place = Place(tmp_path, asking(own_provider()), CHOICES[backend])
    async with place, place.client() as client:
        for text in ("one", "two", "one"):
            assert not (await client.call(text)).text.startswith("failed")
        executions = place.executions()

    assert [each.sequence for each in executions] == [1, 2, 3]
    assert executions[0].digest == executions[2].digest != executions[1].digest


async def test_the_reference_daemons_chat_takes_that_hop(backend: str, tmp_path: Path):
    """
    A fault there is late or told by `chat` alone; the daemon and its other tools go on.
    """
    place = Place(tmp_path, Reference(provider=own_provider()), CHOICES[backend])
    async with place, place.client() as client:
        async with place.inject(Latency(latency_ms=LATE_MS), hop="provider"):
            late = await client.call("chat", {"prompt": "one"})
            echo = await client.call("echo", {"text": "hi"})
        async with place.inject(Down(), hop="provider"):
            with pytest.raises(CallUnknown) as caught:
                await client.call("chat", {"prompt": "two"})
        await client.call("chat", {"prompt": "three"})
        executions = place.executions()

    assert late.elapsed_ms >= LATE_MS > echo.elapsed_ms
    assert "refused" in str(caught.value)
    assert [each.sequence for each in executions] == [1, 2]


@in_containers
@pytest.mark.parametrize("path", ["bridge", "loopback", "published"])
@pytest.mark.parametrize("proxy", ["toxiproxy", "embedded"])
async def test_in_containers_on_each_path(tmp_path: Path, path: str, proxy: str):
    """
    Wherever the proxy server stands, the daemon's container reaches the proxy to its provider.
    """
    choice = Choice(backend=DOCKER, proxy=proxy, path=path)  # type: ignore[arg-type]
    place = Place(tmp_path, asking(patience_s=PATIENT_S), choice)
    async with place:
        async with place.inject(Latency(latency_ms=LATE_MS), hop="provider"):
            began = now()
            assert await said(place) == "said hi"
            assert (now() - began) * 1000 >= LATE_MS
        assert [execution.key for execution in place.executions()] == ["hi"]
    assert remains(place.stack) == []


def test_a_provider_without_a_container_is_none_for_containers():
    """
    Asked for, it is refused before anything is made; unasked, all of it runs here.
    """
    daemon = asking(provider(container=None))

    with pytest.raises(InvalidValue, match="has no container to run in") as caught:
        stack_of(daemon, choice=Choice(backend=DOCKER))

    assert 'the provider of the daemon "command"' in str(caught.value)
    assert "[tool.harness.daemon.provider.container]" in str(caught.value)
    chosen = backend_for(AUTO, daemon, EMBEDDED)
    assert chosen == Chosen(LOCAL, "the provider of command has no container to run in")


async def test_without_a_provider_there_is_no_such_hop(tmp_path: Path):
    """
    Each question is answered with the reason.
    """
    async with Place(tmp_path) as place:
        with pytest.raises(InvalidValue, match="has no provider behind it"):
            place.inject(Down(), hop="provider")
        with pytest.raises(InvalidValue, match="has no provider behind it"):
            place.executions()
        with pytest.raises(InvalidValue, match="has no provider behind it"):
            _ = place.provider_url
        with pytest.raises(
            InvalidValue, match="'middle' is no hop; expected one of edge, provider"
        ):
            place.inject(Down(), hop="middle")  # type: ignore[arg-type]
