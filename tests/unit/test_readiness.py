"""Waiting until a program is ready: what becomes of a question that is never answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from harness.address import Address
from harness.daemons.reference import Reference
from harness.environment import readiness
from harness.environment.readiness import answers, daemon_ready
from harness.errors import ConnectFailed, ProgramExited, StartTimeout


@dataclass
class Dying:
    """A program that is there until it was looked at a few times."""

    name: str = "proxy"
    started_at: float = 0.0
    looks: int = 2
    command: list[str] = field(default_factory=lambda: ["some", "program"])
    identity: dict[str, Any] = field(default_factory=lambda: {"container": "one"})
    state: str = "exited with 3"

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        self.looks -= 1
        return self.looks >= 0

    def tail(self, lines: int = 12) -> str:
        """What it wrote."""
        return "the last word"

    def next_step(self) -> tuple[str, str]:
        """What to do."""
        return "next", "look"


async def test_who_ends_while_it_is_asked_is_not_waited_for() -> None:
    """On a network of its own nobody refuses us when it is gone: the question hangs."""
    asked = []

    async def ask(within_s: float) -> str | None:
        asked.append(within_s)
        await asyncio.Event().wait()
        return None

    with pytest.raises(ProgramExited, match="exited with 3 before it was ready") as caught:
        await answers(ask, Dying(), where="10.0.0.2:9000", within_s=86_400)

    assert len(asked) == 1
    assert "the last word" in str(caught.value)


async def test_a_question_under_way_is_broken_off_with_the_wait() -> None:
    """Whoever is cancelled leaves none behind."""
    begun, broken = asyncio.Event(), asyncio.Event()

    async def ask(within_s: float) -> str | None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            broken.set()
        return None

    waiting = asyncio.create_task(answers(ask, Dying(looks=1000), where="x", within_s=86_400))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert broken.is_set()


async def test_what_to_look_at_is_told_though_the_last_try_had_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It learned nothing; what those before it met is as true as it was."""
    kinds = iter(["refused", "rejected"])

    class Try:
        def __init__(self, *_: object, **__: object) -> None:
            self.kind = next(kinds, "timeout")

        async def __aenter__(self) -> None:
            raise ConnectFailed("no session", kind=self.kind)

        async def __aexit__(self, *_: object) -> None:
            """Never entered."""

    monkeypatch.setattr(readiness, "session_with", Try)
    daemon = Reference(start_timeout_s=0.2)
    with pytest.raises(StartTimeout) as caught:
        await daemon_ready(daemon, Address("127.0.0.1", 1), Dying(looks=1000))

    assert "next      check the path, the headers" in str(caught.value)
