"""
Whatever one peer sends, the daemon lives, and nobody else has trouble of it.

By default each test takes some hundred examples. HARNESS_FUZZ_SECONDS makes all of them together
go on for that long, with fresh seeds; each says in the end how to do it again. HARNESS_FUZZ_SEED is
the first seed.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure

from tests.integration import fuzz_input
from tests.integration.fuzz_requests import MAX_BYTES, SESSIONS
from tests.integration.fuzz_target import Target
from tests.integration.fuzzing import SECONDS, Fuzz
from tests.integration.refdaemon_process import on_both_transports, started

# A failing example is made smaller, for up to five minutes.
SMALLER_S = 400
# How long a defect may stay unseen, and how long a daemon with one may take to answer.
FIND_S = 30
FOUND_S = 1.0

pytestmark = [
    pytest.mark.timeout(SECONDS + SMALLER_S),
    # Long they are; what fails is made smaller before it is shown.
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]

DAEMON = ("--max-bytes", str(MAX_BYTES), "--set", "server.call_timeout_s=0.2")
MESSAGES = st.tuples(fuzz_input.messages, st.sampled_from((*SESSIONS, None)))

SPOILT = {
    "deep JSON breaks it": """
        from harness.dialects.exai import reading
        reading.UNREADABLE = tuple(e for e in reading.UNREADABLE if e is not RecursionError)
    """,
    "any bytes are text": """
        from harness.refdaemon.transport import picows
        picows._is_utf8 = lambda data: True
    """,
    "a long request takes its time": """
        from harness.dialects.exai import reading
        decode = reading._decode_request
        def slow(frame):
            while len(frame) > 15_000:
                pass
            return decode(frame)
        reading._decode_request = slow
    """,
    "an error forgets whom it answers": """
        from harness.dialects import exai
        error = exai.Error
        exai.Error = lambda request_id, fault: error("1", fault)
    """,
}
"""Python that runs in the daemon's process before the daemon does."""


@pytest.fixture
def fuzz(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Fuzz:
    """Carries out examples for this test's share of the time."""

    def tell(line: str) -> None:
        if SECONDS:
            with capsys.disabled():
                print(f"\n{line}", flush=True)
        else:
            print(line)

    sharing = [
        item for item in request.session.items if "fuzz" in getattr(item, "fixturenames", ())
    ]
    return Fuzz(SECONDS / len(sharing), request.node.nodeid, tell)


@pytest.fixture
async def target(tmp_path: Path, transport: str) -> AsyncIterator[Target]:
    """A daemon with small messages and short calls, and its bystander."""
    target = Target(partial(started, tmp_path, *DAEMON, transport=transport))
    yield target
    await target.close()


@on_both_transports
async def test_before_the_upgrade(fuzz: Fuzz, target: Target) -> None:
    """
    Bytes that are no request to upgrade, or a bad one, are answered with HTTP or not at all.
    """
    await fuzz(fuzz_input.upgrades, target.upgrade)


@on_both_transports
@pytest.mark.parametrize("welcomed", [False, True], ids=["no hello", "hello"])
async def test_frames(fuzz: Fuzz, target: Target, *, welcomed: bool) -> None:
    """
    Frames that break RFC 6455, and bytes that are no frames, end their own connection at most.
    """
    await fuzz(fuzz_input.raw_frames, partial(target.frames, welcomed=welcomed))


@on_both_transports
async def test_hello(fuzz: Fuzz, target: Target) -> None:
    """
    The first message is answered with a hello_ack; who is not taken in is told why and closed.
    """
    await fuzz(fuzz_input.hellos, target.hello)


@on_both_transports
async def test_messages(fuzz: Fuzz, target: Target) -> None:
    """
    Each message of a welcomed peer is answered, and none but the unbearable ends its connection.
    """
    await fuzz(MESSAGES, lambda case: target.messages(*case))


async def find_defect(target: Target) -> None:
    """Send messages until one fails."""
    # The second: it failed, and not again, since the daemon's memory was another.
    find = Fuzz(FIND_S, "", print, smaller=False)
    try:
        with pytest.raises((AssertionError, FlakyFailure)):
            await find(MESSAGES, lambda case: target.messages(*case))
    finally:
        await target.give_up()


async def test_a_defect_is_found(tmp_path: Path) -> None:
    """
    A daemon that JSON without an object breaks is not taken for one that bears everything.
    """
    options = (*DAEMON, "--defect", "crash-on-array")

    await find_defect(Target(partial(started, tmp_path, *options), within_s=FOUND_S))


@pytest.mark.parametrize("spoilt", SPOILT)
async def test_a_defect_below_the_daemon_is_found(tmp_path: Path, spoilt: str) -> None:
    """
    Nor is one whose decoder, transport or dialect errs.
    """
    lines = [line.removeprefix("        ") for line in SPOILT[spoilt].splitlines()]
    # In the place of `python -m harness.refdaemon`.
    lines += ["import sys", "from harness.refdaemon.__main__ import main"]
    lines += ["sys.exit(main(sys.argv[4:]))"]
    before = (sys.executable, "-c", "\n".join(lines))

    await find_defect(Target(partial(started, tmp_path, *DAEMON, before=before), within_s=FOUND_S))
