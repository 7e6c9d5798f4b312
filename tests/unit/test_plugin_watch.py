"""Which tasks a test began, whoever else works on its loops."""

from __future__ import annotations

import asyncio
import threading
from contextvars import Context

import pytest

from harness.errors import InvalidValue
from harness.history import Silent
from harness.pytest_plugin.watch import Watch, shown


@pytest.fixture
def watch(request: pytest.FixtureRequest) -> Watch:
    """A watch over this very test."""
    return Watch(Silent(), request.node)


async def forever() -> None:
    """Runs until it is cancelled."""
    await asyncio.Event().wait()


async def test_a_task_is_a_tests_own_by_its_context(watch: Watch) -> None:
    """One that began in another context is not, although it began meanwhile."""
    watch.record(process="p", type="info", f="f")
    mine = asyncio.create_task(forever())
    theirs = asyncio.create_task(forever(), context=Context())

    begun = watch.begun()
    for task in (mine, theirs):
        task.cancel()
    assert mine in begun
    assert theirs not in begun


async def test_a_task_that_has_ended_was_not_left(watch: Watch) -> None:
    """Only those that still run are looked at."""
    watch.record(process="p", type="info", f="f")
    task = asyncio.create_task(asyncio.sleep(0))
    await task

    assert task not in watch.begun()


def test_ops_come_from_any_number_of_threads(watch: Watch) -> None:
    """Loops are met and forgotten while somebody looks at them."""
    over = threading.Event()
    troubles: list[BaseException] = []

    def work() -> None:
        async def story() -> None:
            watch.record(process="p", type="info", f="f")
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(5)))

        try:
            while not over.is_set():
                asyncio.run(story())
        except BaseException as error:  # noqa: BLE001 - it is raised below
            troubles.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):
            watch.begun()
    finally:
        over.set()
        for thread in threads:
            thread.join()

    assert troubles == []


def test_a_new_op_after_the_test_is_refused(watch: Watch) -> None:
    """The end of one that was under way is not: nobody can help it."""
    watch.end()

    watch.record(process="p", type="ok", f="call")
    with pytest.raises(InvalidValue, match="p call: the test it was made for is over"):
        watch.record(process="p", type="invoke", f="call")


async def test_a_task_is_shown_by_name_and_coroutine() -> None:
    """Neither alone says much."""
    task = asyncio.create_task(forever(), name="left")
    told = shown(task)
    task.cancel()

    assert told == "left (forever)"
