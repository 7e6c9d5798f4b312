"""What a test leaves behind fails it, is put away, and meets nobody after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.inner import Outcome, carried_out, traced

_LEAVES = """
    import asyncio
    import pytest
    from harness.faults.latency import Latency
    from harness.faults.pause import Pause

    LATE = Latency(latency_ms=1)

    async def test_1_fault(harness_environment):
        await harness_environment.inject(LATE).__aenter__()

    @pytest.mark.harness_isolation("daemon")
    async def test_1_fault_of_the_process(harness_environment):
        await harness_environment.inject(Pause()).__aenter__()

    async def test_2_toxic_by_api(harness_environment):
        env = harness_environment
        await env.control.add_toxic(env.name, LATE, name="mine")

    def test_3_toxic_by_another_client(harness_environment):
        from toxiproxy import Toxiproxy
        from toxiproxy.api import APIConsumer
        before = APIConsumer.host, APIConsumer.port
        host, port = harness_environment.control.url.removeprefix("http://").split(":")
        toxiproxy = Toxiproxy()
        toxiproxy.update_api_consumer(host, int(port))
        proxy = toxiproxy.get_proxy(harness_environment.name)
        proxy.add_toxic(name="theirs", type="latency", attributes={"latency": 1})
        APIConsumer.host, APIConsumer.port = before

    async def test_4_link(harness_environment):
        await harness_environment.control.update(harness_environment.name, enabled=False)

    async def test_5_connection(harness_environment):
        await harness_environment.client(process="caller").__aenter__()

    async def forever():
        await asyncio.Event().wait()

    def test_5_connection_of_ones_own(harness_environment, keep):
        from websockets.sync.client import connect
        keep.append(connect(harness_environment.url))

    async def test_6_task(harness_environment, keep):
        keep.append(asyncio.create_task(forever(), name="left"))

    def test_7_task_on_our_loop(harness_environment, keep):
        async def story():
            keep.append(asyncio.create_task(forever(), name="left"))
        harness_environment.run(story())

    def test_8_task_by_harness_run(harness_run, keep):
        async def story():
            keep.append(asyncio.create_task(forever(), name="left"))
        harness_run(story())

    def test_9_fault_never_put_on(harness_environment):
        harness_environment.inject(LATE)

    async def test_a_proxy(harness_environment):
        env = harness_environment
        await env.control.create("other", upstream=str(env.stack.site.address))

    async def test_b_nothing(harness_environment, tell):
        proxies = await harness_environment.control.proxies()
        proxy = proxies[harness_environment.name]
        tell(proxies=len(proxies), toxics=len(proxy.toxics), enabled=proxy.enabled)
"""
_KEEP = """
    import pytest

    @pytest.fixture
    def keep():
        # A task that nobody refers to may be collected.
        return []
    """

# A connection that nobody closed is told of by a warning, too.
_CALM = ("-W", "default")


@pytest.fixture(scope="module")
def left(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A suite whose tests leave a thing each."""
    files = {"conftest.py": _KEEP, "test_it.py": _LEAVES}
    return carried_out(tmp_path_factory.mktemp("left"), files, *_CALM)


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("test_1_fault", "fault  latency-1 was still in place"),
        ("test_1_fault_of_the_process", "fault  pause-1 was still in place"),
        ("test_2_toxic_by_api", "toxic  mine was still on the wire"),
        ("test_3_toxic_by_another_client", "toxic  theirs was still on the wire"),
        ("test_4_link", "link  the proxy was still disabled"),
        ("test_5_connection", "connection  caller was never closed"),
        ("test_5_connection_of_ones_own", "connection  1 was still open to ws://127.0.0.1:"),
        ("test_6_task", "task  left (forever) was still running"),
        ("test_7_task_on_our_loop", "task  left (forever) was still running"),
        ("test_8_task_by_harness_run", "left tasks on the harness's loop: left (forever)"),
        ("test_9_fault_never_put_on", "fault  latency-1 was never put on"),
        ("test_a_proxy", "proxy  other was still on the proxy server"),
    ],
)
def test_what_is_left_fails_the_test_at_its_tear_down(left: Outcome, test: str, said: str) -> None:
    """The error names the thing, has no traceback through our files, and comes alone."""
    assert left.ends()[test] == ["error"]
    told = left.complaint(test)
    assert said in told
    assert not traced(told)


def test_it_is_put_away(left: Outcome) -> None:
    """The last test passes, and meets one proxy that nobody touched."""
    assert left.ends()["test_b_nothing"] == ["passed"]
    assert left.told("proxies") == {"test_b_nothing": 1}
    assert left.told("toxics") == {"test_b_nothing": 0}
    assert left.told("enabled") == {"test_b_nothing": True}


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("test_4_link", "link: the proxy was still disabled"),
        # The task that reads for the client is no thing of its own.
        ("test_5_connection", "connection: caller was never closed"),
    ],
)
def test_it_is_on_file(left: Outcome, test: str, said: str) -> None:
    """results.json has what the report says, and nothing besides."""
    results = json.loads((left.run_directory(test) / "results.json").read_bytes())

    assert results["left_behind"] == [said]


def test_a_task_on_a_loop_that_tests_share_is_cancelled(tmp_path: Path) -> None:
    """The test after it does not meet it."""
    files = {
        "conftest.py": _KEEP.replace("fixture", 'fixture(scope="module")'),
        "test_it.py": """
    import asyncio
    import pytest

    pytestmark = pytest.mark.asyncio(loop_scope="module")

    async def test_1_leaves(harness_environment, keep):
        keep.append(asyncio.create_task(asyncio.Event().wait()))

    async def test_2_after(keep):
        await asyncio.wait(keep, timeout=5)
        assert keep[0].cancelled()
    """,
    }
    outcome = carried_out(tmp_path, files)

    assert outcome.ends() == {"test_1_leaves": ["error"], "test_2_after": ["passed"]}


@pytest.fixture(scope="module")
def not_blamed(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A suite whose tests leave things, and have their reason or somebody who puts them away."""
    files = {
        "conftest.py": _KEEP
        + """
    import asyncio
    import pytest

    async def forever():
        await asyncio.Event().wait()

    @pytest.fixture
    async def held(harness_environment):
        async with harness_environment.client() as client:
            yield client

    @pytest.fixture
    async def held_fault(harness_environment):
        from harness.faults.latency import Latency
        async with harness_environment.inject(Latency(latency_ms=1)):
            yield

    @pytest.fixture
    async def background():
        task = asyncio.create_task(forever())
        yield
        task.cancel()

    @pytest.fixture
    async def begins(harness_environment):
        tasks = []
        yield lambda: tasks.append(asyncio.create_task(forever()))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    @pytest.fixture
    async def provider():
        async def serve(reader, writer):
            await reader.read()
            writer.close()

        # It is put away after the environment, for that does not hang on it.
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        # Not waited for: since Python 3.12 that would wait for its connections, too.
        server.close()
    """,
        "test_it.py": """
    import asyncio
    import socket
    import pytest
    from harness.faults.latency import Latency

    async def forever():
        await asyncio.Event().wait()

    async def test_client_of_a_fixture(held):
        await held.call("echo", {"text": "hi"})

    async def test_fault_of_a_fixture(held_fault):
        pass

    async def test_task_of_a_fixture(background, harness_environment):
        async with harness_environment.client() as client:
            await client.call("echo", {"text": "hi"})

    async def test_task_that_a_fixture_puts_away(begins):
        begins()

    async def test_task_of_a_server(provider, harness_environment, keep):
        # Its connection, and so its server's task, are still there when the test is over.
        keep.append(socket.create_connection(("127.0.0.1", provider)))
        async with harness_environment.client() as client:
            await client.call("echo", {"text": "hi"})
        assert len(asyncio.all_tasks()) > 1

    async def ends_slowly():
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(100):
                await asyncio.sleep(0)

    async def test_task_that_was_cancelled(harness_environment, keep):
        keep.append(asyncio.create_task(ends_slowly()))
        await asyncio.sleep(0)
        keep[0].cancel()

    async def test_failed_by_itself(harness_environment, keep):
        await harness_environment.client().__aenter__()
        await harness_environment.inject(Latency(latency_ms=1)).__aenter__()
        harness_environment.inject(Latency(latency_ms=1))
        keep.append(asyncio.create_task(forever()))
        async with harness_environment.client(direct=True) as client:
            await client.call("counter", {"name": "n"})
        assert not "its own reason"

    def test_failed_with_a_task_on_our_loop(harness_run, keep):
        async def story():
            keep.append(asyncio.create_task(forever()))
        harness_run(story())
        assert not "its own reason"

    @pytest.mark.xfail
    async def test_failed_as_expected(harness_environment):
        await harness_environment.inject(Latency(latency_ms=1)).__aenter__()
        assert not "its own reason"

    async def test_after_all(harness_environment, tell):
        async with harness_environment.client() as client:
            tell(state=(await client.health())["tool_state"]["counter"]["names"])
    """,
    }
    return carried_out(tmp_path_factory.mktemp("not_blamed"), files, *_CALM)


def test_what_fixtures_put_away_blames_nobody(not_blamed: Outcome) -> None:
    """Clients, faults, tasks and servers that fixtures hold around a test are not its leavings."""
    ends = not_blamed.ends()

    passed = [name for name, end in ends.items() if end == ["passed"]]
    assert passed == [
        "test_client_of_a_fixture",
        "test_fault_of_a_fixture",
        "test_task_of_a_fixture",
        "test_task_that_a_fixture_puts_away",
        "test_task_of_a_server",
        "test_task_that_was_cancelled",
        "test_after_all",
    ], not_blamed.text


@pytest.mark.parametrize("test", ["test_failed_by_itself", "test_failed_with_a_task_on_our_loop"])
def test_a_test_that_failed_is_not_blamed_twice(not_blamed: Outcome, test: str) -> None:
    """What it left is put away, and its own reason is the only one told."""
    assert not_blamed.ends()[test] == ["failed"]
    assert "its own reason" in not_blamed.complaint(test)


def test_a_test_that_failed_as_expected_is_not_blamed(not_blamed: Outcome) -> None:
    """An expected failure stays one, whatever it left."""
    assert not_blamed.ends()["test_failed_as_expected"] == ["skipped"]


def test_a_daemon_that_a_failed_test_changed_is_replaced(not_blamed: Outcome) -> None:
    """Nobody blames the test, and yet the next one meets nothing of it."""
    assert not_blamed.told("state") == {"test_after_all": 0}
