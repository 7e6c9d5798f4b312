"""The stand-in provider as a program: what it answers, what it executes, what it remembers."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.clock import clock_id, now_ns
from harness.http.client import Answer
from harness.records import Execution, read_lines
from tests.integration.provider_process import PATIENCE_S, ProviderProcess, provider_process

REPLAYED = "idempotent-replayed"


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[ProviderProcess]:
    async with provider_process(tmp_path, "--seed", "7") as process:
        yield process
        assert process.process.returncode is None, "it died under the test"
        assert "Traceback" not in (tmp_path / "provider.log").read_text()


def seen(answer: Answer) -> tuple[int, str | None]:
    """Status, and what the error says."""
    return answer.status, json.loads(answer.body).get("error")


async def test_an_execution_says_what_it_was(provider: ProviderProcess):
    """
    Key, digest, process, clock and deadline; what the caller did not give is absent.
    """
    began = now_ns()
    plain = await provider.chat("why?")
    keyed = await provider.chat("why?", key="intent-1", deadline_ms=2000)
    one, two = provider.executions()

    assert (plain.status, plain.headers["content-type"]) == (200, "application/json")
    assert [json.loads(answer.body)["execution"] for answer in (plain, keyed)] == [1, 2]
    assert began <= one.time_ns <= two.time_ns <= now_ns()
    assert one == Execution(
        sequence=1,
        time_ns=one.time_ns,
        clock=clock_id(),
        digest=one.digest,
        pid=provider.process.pid,
    )
    assert (two.sequence, two.key, two.deadline_ms) == (2, "intent-1", 2000)
    assert one.digest == two.digest


async def test_an_answer_is_a_function_of_prompt_and_seed(
    provider: ProviderProcess, tmp_path: Path
):
    """
    The same in another process, another for another prompt or another seed.
    """
    texts = [json.loads((await provider.chat(prompt)).body)["text"] for prompt in ("a", "a", "b")]
    others = []
    for seed in ("7", "8"):
        folder = tmp_path / seed
        folder.mkdir()
        async with provider_process(folder, "--seed", seed) as other:
            others.append(json.loads((await other.chat("a")).body)["text"])

    assert texts[0] == texts[1] == others[0]
    assert len({texts[0], texts[2], others[1]}) == 3


async def test_an_execution_is_on_file_before_its_answer(provider: ProviderProcess):
    """
    Whenever an answer arrives, the file already holds its line.
    """
    for n in range(1, 30):
        await provider.chat(f"prompt {n}", delay_ms=n % 3)
        assert len(provider.executions()) == n


async def test_executions_survive_sigkill(tmp_path: Path):
    """
    Whole lines, one for every answer that was received.
    """
    async with provider_process(tmp_path) as provider:
        answers = await asyncio.gather(*(provider.chat("x", key=f"k{n}") for n in range(50)))
        await provider.stop(signal.SIGKILL)

        assert {each.key for each in provider.executions()} == {f"k{n}" for n in range(50)}
    assert {answer.status for answer in answers} == {200}


async def test_a_key_is_executed_once(provider: ProviderProcess):
    """
    A repeat brings the kept answer, says so, and is on file no second time.
    """
    first = await provider.chat("once", key="k")
    again = await provider.chat("once", key="k", delay_ms=600_000, deadline_ms=0)

    assert again.body == first.body
    assert (REPLAYED in first.headers, again.headers[REPLAYED]) == (False, "true")
    assert [each.key for each in provider.executions()] == ["k"]
    assert (await provider.health())["executions"] == 1


async def test_a_key_belongs_to_its_prompt(provider: ProviderProcess):
    """
    With another it is refused, also while the first runs; neither is executed twice.
    """
    running = asyncio.create_task(provider.chat("slow", key="k", delay_ms=1000))
    await provider.health_when("running", 1)
    early = await provider.chat("other", key="k")
    await running
    late = await provider.chat("other", key="k")

    assert seen(early) == seen(late)
    assert seen(late) == (422, "this Idempotency-Key was used with another prompt")
    assert len(provider.executions()) == 1


async def test_a_second_request_of_a_key_waits_for_the_first(provider: ProviderProcess):
    """
    Ten at once are one execution, and one answer.
    """
    answers = await asyncio.gather(
        *(provider.chat("together", key="k", delay_ms=100) for _ in range(10))
    )

    assert len({answer.body for answer in answers}) == 1
    assert sorted(REPLAYED in answer.headers for answer in answers) == [False] + [True] * 9
    assert len(provider.executions()) == 1


async def test_who_leaves_ends_nothing(provider: ProviderProcess):
    """
    The work is finished and on file, and a repeat of the key gets its answer.
    """
    leaving = asyncio.create_task(provider.chat("left", key="k", delay_ms=1000))
    await provider.health_when("running", 1)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    again = await provider.chat("left", key="k")

    assert (again.status, again.headers[REPLAYED]) == (200, "true")
    assert len(provider.executions()) == 1


async def test_work_that_would_come_too_late_is_not_begun(provider: ProviderProcess):
    """
    It is refused at once, and the key is free for a caller with more time.
    """
    async with asyncio.timeout(PATIENCE_S):
        refused = await provider.chat("long", key="k", delay_ms=600_000, deadline_ms=599_999)
    health = await provider.health()
    patient = await provider.chat("long", key="k", delay_ms=20, deadline_ms=20_000)

    assert seen(refused) == (504, "the work takes longer than the 599999 ms that are left")
    assert (health["running"], health["executions"]) == (0, 0)
    assert patient.status == 200


async def test_who_cannot_wait_for_the_first_of_a_key_is_told_so(provider: ProviderProcess):
    """
    At once; the first runs on.
    """
    running = asyncio.create_task(provider.chat("slow", key="k", delay_ms=1000))
    await provider.health_when("running", 1)
    second = await provider.chat("slow", key="k", deadline_ms=1)
    still = (await provider.health())["running"]

    assert (second.status, still) == (504, 1)
    assert (await running).status == 200


@pytest.mark.parametrize("status", [400, 429, 500, 503, 599])
async def test_it_fails_as_it_is_asked_to(provider: ProviderProcess, status: int):
    """
    With that status, without executing, and without keeping anything under the key.
    """
    failed = await provider.chat("f", key="k", fail=status, delay_ms=1)
    well = await provider.chat("f", key="k")

    assert seen(failed) == (status, "failed, as it was asked to")
    assert (well.status, len(provider.executions())) == (200, 1)
    assert (await provider.health())["requests"] == 2


BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b'{"prompt": 1}',
    b'{"text": "a"}',
    b'{"prompt": "a", "more": 1}',
    b'{"prompt": "\xff"}',
    b'{"prompt": "\\ud800"}',
    b'{"prompt": "a", "delay_ms": -1}',
    b'{"prompt": "a", "delay_ms": 600001}',
    b'{"prompt": "a", "delay_ms": 1.5}',
    b'{"prompt": "a", "fail": 200}',
    b'{"prompt": "a", "fail": 600}',
]


@pytest.mark.parametrize("body", BAD_BODIES)
async def test_a_body_that_makes_no_sense_is_refused(provider: ProviderProcess, body: bytes):
    """
    400 with a reason, and nothing is executed.
    """
    status, why = seen(await provider.request("POST", "/v1/chat", body=body))

    assert status == 400
    assert why is not None
    assert why.startswith("the body is not what is expected: ")
    assert (await provider.health())["executions"] == 0


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Deadline-Ms", "-1"),
        ("X-Deadline-Ms", "1.5"),
        ("X-Deadline-Ms", ""),
        ("X-Deadline-Ms", "9" * 5000),
        ("X-Deadline-Ms", "²"),
        ("Idempotency-Key", ""),
        ("Idempotency-Key", "a b"),
        ("Idempotency-Key", "ü"),
        ("Idempotency-Key", "k" * 256),
    ],
)
async def test_a_header_that_makes_no_sense_is_refused(
    provider: ProviderProcess, header: str, value: str
):
    """
    400 with its name.
    """
    status, why = seen(
        await provider.request("POST", "/v1/chat", body=b'{"prompt": "a"}', headers={header: value})
    )

    assert (status, (why or "").partition(":")[0]) == (400, header)
    assert (await provider.health())["executions"] == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/chat", 405, "POST"),
        ("POST", "/health", 405, "GET, HEAD"),
        ("GET", "/", 404, None),
        ("POST", "/v1/chat/", 404, None),
    ],
)
async def test_there_is_nothing_else(
    provider: ProviderProcess, method: str, path: str, status: int, allow: str | None
):
    """
    Other paths are 404, other methods 405 with those there are.
    """
    answer = await provider.request(method, path)

    assert (answer.status, answer.headers.get("allow")) == (status, allow)
    assert json.loads(answer.body).keys() == {"error"}


async def test_it_answers_while_others_wait(provider: ProviderProcess):
    """
    Work on many prompts goes on side by side.
    """
    slow = [asyncio.create_task(provider.chat("s", delay_ms=600_000)) for _ in range(20)]
    await provider.health_when("running", 20)
    quick = await provider.chat("q")
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)

    assert quick.status == 200


async def test_the_delay_of_requests_that_name_none_is_an_option(tmp_path: Path):
    """
    What a request says goes before it.
    """
    async with provider_process(tmp_path, "--delay-ms", "5000") as provider:
        late = await provider.chat("a", deadline_ms=4000)
        quick = await provider.chat("a", deadline_ms=4000, delay_ms=0)

    assert (late.status, quick.status) == (504, 200)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_when_it_is_asked_to(tmp_path: Path, number: signal.Signals):
    """
    At once, with 0; what was under way is cut off and was not executed.
    """
    async with provider_process(tmp_path) as provider:
        slow = asyncio.create_task(provider.chat("s", delay_ms=600_000))
        await provider.health_when("running", 1)
        code = await provider.stop(number)
        with pytest.raises(OSError):
            await slow

        assert (code, provider.executions()) == (0, [])
    assert "Traceback" not in (tmp_path / "provider.log").read_text()


async def test_an_execution_that_cannot_be_written_is_no_answer(tmp_path: Path):
    """
    500, the key is free again, and the provider lives on.
    """
    async with provider_process(tmp_path, "--executions", "/dev/full") as provider:
        answers = [await provider.chat("x", key="k") for _ in range(2)]
        executions = (await provider.health())["executions"]

    assert [seen(answer)[0] for answer in answers] == [500, 500]
    assert "No space left" in (seen(answers[0])[1] or "")
    assert executions == 0


async def test_two_providers_share_a_file(tmp_path: Path):
    """
    Neither cuts into the other's lines; each counts for itself.
    """
    async with provider_process(tmp_path) as one, provider_process(tmp_path) as two:
        await asyncio.gather(*(each.chat("x") for _ in range(100) for each in (one, two)))
        records, tail = read_lines(one.executions_file.read_bytes(), Execution)

    assert tail == b""
    assert sorted(each.sequence for each in records) == sorted([*range(1, 101)] * 2)
    assert len({each.pid for each in records}) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--host", "0.0.0.0"), 64, "--allow-remote"),
        (("--executions", "/nowhere/at/all"), 3, "No such file"),
        (("--host", "192.0.2.1", "--allow-remote"), 3, "cannot listen on 192.0.2.1"),
        (("--delay-ms", "x"), 64, "expected a whole number"),
        (("--port", "65536"), 64, "expected 0 to 65535"),
        (("--delay", "1"), 64, "unrecognized arguments"),
    ],
)
async def test_it_says_why_it_cannot_run(arguments: tuple[str, ...], code: int, said: str):
    """
    One error, with what to do next, and the exit code of its kind.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "harness.refdaemon.provider", "--port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await process.communicate()

    assert process.returncode == code
    assert said in output.decode()
    assert "next" in output.decode()
