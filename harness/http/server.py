"""
An HTTP/1.1 server on h11: requests in, answers out, every wait bounded.

For side entrances (an API, a monitor), where plainness counts more than speed.

Rule: whatever one peer does or leaves undone ends its own connection and no other.
"""

from __future__ import annotations

import asyncio

from harness.http.messages import Options
from harness.http.talk import Handle, Talk

__all__ = ["Handle", "Listening", "listen"]


async def listen(
    handle: Handle,
    host: str,
    port: int,
    *,
    options: Options = Options(),  # noqa: B008 (frozen)
) -> Listening:
    """
    Serve until closed.

    Args:
        handle: Answers the requests. What it raises is logged and answered with a 500.
        host: The address to listen on.
        port: The port; 0 lets the system choose.
        options: Bounds and habits.

    Raises:
        OSError: If it cannot listen there.
    """
    talks: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: asyncio's streams complain of one that is cancelled.
        talk = Talk(handle, options, reader, writer)
        task = asyncio.get_running_loop().create_task(talk.converse())
        talks.add(task)
        task.add_done_callback(talks.discard)

    return Listening(await asyncio.start_server(accepted, host, port), talks)


class Listening:
    """
    A server that listens, had from `listen`. Whoever has it closes it.

    Attributes:
        host: The address it listens on.
        port: The port it listens on.
    """

    def __init__(self, server: asyncio.Server, talks: set[asyncio.Task[None]]) -> None:
        self._server = server
        self._talks = talks
        self.host: str
        self.port: int
        self.host, self.port = server.sockets[0].getsockname()[:2]

    async def close(self) -> None:
        """Listen no more, and cut off every connection, whatever it is at."""
        self._server.close()
        talks = list(self._talks)
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        # One turn of the loop lets the closed sockets go.
        await asyncio.sleep(0)
