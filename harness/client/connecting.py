"""One connection at a time, made anew when it is gone; whoever needs it waits for the same one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harness.client.results import Tally
from harness.client.session import Session
from harness.clock import now
from harness.errors import ConnectFailed
from harness.resilience.backoff import Backoff
from harness.resilience.clients import ClientFigures

__all__ = ["Connecting"]


class Connecting:
    """
    The connections of one client, one after the other.

    Args:
        open_session: Makes an unopened session that asks for that session id.
        backoff: How long to wait before the next one. The first is not waited for.
        figures: Where connections are counted.
        tally: Where reconnections are counted.
        resumes: The promise of a daemon that knows a session again.

    Attributes:
        last: The session there was last, open or not.
        closed: Whether there will be no more.
    """

    def __init__(
        self,
        open_session: Callable[[str | None], Session],
        *,
        backoff: Backoff,
        figures: ClientFigures,
        tally: Tally,
        resumes: str,
    ) -> None:
        self._open_session = open_session
        self._backoff = backoff
        self._figures = figures
        self._tally = tally
        self._resumes = resumes
        self._trying: asyncio.Task[Session] | None = None
        self._tries = 0
        self._opened = 0
        self._entered: Session | None = None
        self.last: Session | None = None
        self.closed = False

    @property
    def session(self) -> Session | None:
        """The session that is open now."""
        return self.last if self.last is not None and self.last.is_open else None

    def answered(self) -> None:
        """The connection brought an answer."""
        self._backoff.answered(now())

    async def connected(self) -> Session:
        """
        The open session; a new one where there is none.

        Raises:
            ConnectFailed: If none came about. All who waited for it get the same error.
        """
        if self.closed:
            raise _closed()
        if self.session is not None:
            return self.session
        if self._trying is None:
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
        self._trying = None
        if not task.cancelled():
            # Looked at here: those who asked may all have gone.
            task.exception()

    async def _try(self) -> Session:
        await self._leave()
        if self._tries:
            await asyncio.sleep(self._backoff.next_s())
        self._tries += 1
        session = self._open_session(self._session_id())
        try:
            await session.__aenter__()
        except ConnectFailed:
            self._figures.connection_failed()
            raise
        self._entered = self.last = session
        self._tally.reconnections += self._opened > 0
        self._opened += 1
        self._figures.opened()
        self._backoff.opened(now())
        return session

    def _session_id(self) -> str | None:
        """That of the session before, where its daemon promised to know it again."""
        welcome = None if self.last is None else self.last.welcome
        if welcome is None or self._resumes not in welcome.promises:
            return None
        return welcome.session_id or None

    async def _leave(self) -> None:
        session, self._entered = self._entered, None
        if session is not None:
            try:
                await session.__aexit__(None, None, None)
            finally:
                self._figures.closed()

    async def close(self) -> None:
        """End it; who still waits for a connection is told that there is none."""
        self.closed = True
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.wait([self._trying])
        await self._leave()


def _closed() -> ConnectFailed:
    return ConnectFailed("no session: the client was closed meanwhile", kind="closed")
