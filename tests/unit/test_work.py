"""A call under way, and those who wait for it."""

from __future__ import annotations

from typing import Any

from harness.dialects.exai import CallTool, StreamChunk
from harness.refdaemon.work import Asker, Work
from harness.resilience.idempotency import Kept


class Slow:
    """A session whose peer has no room for its first frame; meanwhile one asker has its end."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int]] = []
        self.work: Work | None = None

    def say(self, chunk: StreamChunk) -> bool:
        self.said.append((chunk.request_id, chunk.index))
        return len(self.said) > 1

    async def has_room(self) -> None:
        assert self.work is not None
        del self.work.askers["gone"]


async def test_who_had_an_end_while_a_chunk_waited_for_room_is_sent_no_more():
    """
    Its request id may be another call's by then; the others have all of it.
    """
    session: Any = Slow()
    call = CallTool(request_id="gone", name="stream", arguments={})
    session.work = work = Work(
        session=session,
        call=call,
        tool=session,
        arguments=None,
        kept=Kept("k", None, None, 0.0, 0),
        size=0,
        deadline_s=0.0,
        askers={"gone": Asker(received_ns=1), "there": Asker(received_ns=1)},
    )

    await work.chunk(0, "x")
    await work.chunk(1, "y")

    assert session.said == [("gone", 0), ("there", 0), ("there", 1)]
