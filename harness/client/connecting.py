"""One connection at a time, made anew when it is gone; whoever needs it waits for the same one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from harness.client.results import Tally
from harness.client.session import Session
from harness.clock import now
from harness.errors import ConnectFailed
from harness.resilience.backoff import Backoff
from harness.resilience.breaker import Breaker
from harness.resilience.clients import ClientFigures

__all__ = ["Connecting"]

_log = logging.getLogger(__name__)

# How long a peer has to answer a ping once a call on it ran into its time limit.
_ANSWER_S: Final = 1.0


class Connecting:
    """
    The connections of one client, one after the other.

    Args:
        open_session: Makes an unopened session that asks for that session id.
        backoff: How long to wait before the next one. The first is not waited for.
        breaker: A connection that does not come about counts against it, once.
        figures: Where connections are counted.
        tally: Where reconnections are counted.
        resumes: The promise of a daemon that knows a session again.

    Attributes:
        closed: Whether there will be no more.
        memory: Counts the daemon's memories of this client: another where it says that it does
            not know the session again, and so remembers none of its keys.
    """

    def __init__(
        self,
        open_session: Callable[[str | None], Session],
        *,
        backoff: Backoff,
        breaker: Breaker,
        figures: ClientFigures,
        tally: Tally,
        resumes: str,
    ) -> None:
        self._open_session = open_session
        self._backoff = backoff
        self._breaker = breaker
        self._figures = figures
        self._tally = tally
        self._resumes = resumes
        self._trying: asyncio.Task[Session] | None = None
        self._doubting: asyncio.Task[None] | None = None
        self._tries = 0
        self._opened = 0
        self._last: Session | None = None
        # The last one while its block is entered, and the last one whose loss was counted.
        self._entered: Session | None = None
        self._lost: Session | None = None
        self.closed = False
        self.memory = 0

    @property
    def session(self) -> Session | None:
        """The session that takes calls now."""
        session = self._entered
        return session if session is not None and session.takes_calls else None

    def answered(self) -> None:
        """The connection brought an answer."""
        self._backoff.answered(now())

    def is_first_loss(self, session: Session) -> bool:
        """Whether nobody has told of this session's loss before."""
        first, self._lost = self._lost is not session, session
        return first

    async def connected(self) -> Session:
        """
        The session that takes calls; a new one where there is none.

        Raises:
            ConnectFailed: If none came about. All who waited for it get the same error.
            BreakerOpen: If the breaker let none through.
        """
        if self._doubting is not None:
            # However it ends, and without ending it.
            await asyncio.wait([self._doubting])
        if self.closed:
            raise _closed()
        if self.session is not None:
            return self.session
        # One that is over may not have been told of yet: what it came to is of another time.
        if self._trying is None or self._trying.done():
            self._trying = asyncio.create_task(self._try(), name="reconnect")
            self._trying.add_done_callback(self._tried)
        trying = self._trying
        try:
            # Whoever gives up waiting takes nothing from those who wait on.
            return await asyncio.shield(trying)
        except asyncio.CancelledError:
            if not self.closed or not trying.cancelled():
                raise
            raise _closed() from None

    def _tried(self, task: asyncio.Task[Session]) -> None:
        if self._trying is task:
            self._trying = None
        if not task.cancelled():
            # Looked at here: those who asked may all have gone.
            task.exception()

    async def _try(self) -> Session:
        await self._leave()
        if self._tries:
            await asyncio.sleep(self._backoff.next_s())
        self._tries += 1
        with self._breaker.admit() as permit:
            session = self._open_session(self._session_id())
            try:
                await session.__aenter__()
            except ConnectFailed:
                self._figures.connection_failed()
                raise
            # A daemon that accepts and closes is not well for having accepted.
            permit.end("ignored")
        assert session.welcome is not None
        # One that does not say is taken at its promise's word.
        self.memory += session.welcome.resumed is False
        self._entered = self._last = session
        self._tally.reconnections += self._opened > 0
        self._opened += 1
        self._figures.opened()
        self._backoff.opened(now())
        return session

    def _session_id(self) -> str | None:
        """That of the session before, where its daemon promised to know it again."""
        welcome = None if self._last is None else self._last.welcome
        if welcome is None or self._resumes not in welcome.promises:
            return None
        return welcome.session_id or None

    def doubt(self, session: Session) -> None:
        """A call on it was not answered in time: see whether anybody is there at all."""
        if self._doubting is None and session is self._entered and not self.closed:
            self._doubting = asyncio.create_task(self._ask(session), name="doubt")

    async def _ask(self, session: Session) -> None:
        try:
            if not await session.answers(within_s=_ANSWER_S) and self._entered is session:
                await self._leave()
        finally:
            self._doubting = None

    async def _leave(self) -> None:
        session, self._entered = self._entered, None
        if session is None:
            return
        self._figures.closed()
        try:
            await session.__aexit__(None, None, None)
        # How an old connection ends is no concern of the call that needs a new one.
        except Exception:  # noqa: BLE001
            _log.exception("a connection that was left did not end well")

    async def close(self) -> None:
        """End it; who still waits for a connection is told that there is none."""
        self.closed = True
        try:
            for task in (self._trying, self._doubting):
                if task is not None:
                    task.cancel()
                    await asyncio.wait([task])
        finally:
            await self._leave()


def _closed() -> ConnectFailed:
    return ConnectFailed("no session: the client was closed meanwhile", kind="left")
