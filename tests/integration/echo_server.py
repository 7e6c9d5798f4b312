"""
A server that sends back every message it gets, over one of the daemon's transports.

    python -m tests.integration.echo_server picows|websockets [DEFECT]

What suites of WebSocket cases want to speak to: a daemon that demands a hello fails most of them
by its own rules. The defects are there to show that such a suite sees them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final

from harness import program
from harness.refdaemon.transport import picows, websockets
from harness.refdaemon.transport.base import Cause, Listen, ListenOptions, Wire

__all__ = ["TRANSPORTS", "Echo"]

TRANSPORTS: Final[dict[str, Listen]] = {"picows": picows.listen, "websockets": websockets.listen}

# The largest message of Autobahn's cases has 16 MiB.
_MAX_BYTES: Final = 16 << 20
_UPGRADE_TIMEOUT_S: Final = 5


class Echo:
    """The handler of one connection."""

    def opened(self, wire: Wire) -> None:
        self._wire = wire

    def messages(self, frames: Sequence[bytes | str]) -> None:
        for frame in frames:
            self._wire.send(frame if isinstance(frame, bytes) else frame.encode())

    def binary(self, frame: bytes) -> None:
        self._wire.send_binary(frame)

    def wants(self, size: int) -> bool:
        return True

    def unwanted(self, head: bytes | str, size: int) -> None:
        """There is none."""

    def pong(self) -> None:
        pass

    def crowded(self) -> None:
        self._wire.pause_reading()

    def writable(self) -> None:
        self._wire.resume_reading()

    def closing(self) -> None:
        pass

    def lost(self, cause: Cause) -> None:
        pass


class _Short(Echo):
    """Loses the last byte of a message."""

    def messages(self, frames: Sequence[bytes | str]) -> None:
        super().messages([frame[:-1] for frame in frames])


class _TextOnly(Echo):
    """Knows no binary messages."""

    def binary(self, frame: bytes) -> None:
        self.messages([frame])


def _any_text() -> type[Echo]:
    """picows takes any bytes for text."""
    picows._is_utf8 = lambda data: True
    return Echo


DEFECTS: Final[dict[str, Callable[[], type[Echo]]]] = {
    "": lambda: Echo,
    "short": lambda: _Short,
    "text_only": lambda: _TextOnly,
    "any_text": _any_text,
}


async def _main(transport: str, defect: str) -> int:
    options = ListenOptions(
        host="127.0.0.1", port=0, max_bytes=_MAX_BYTES, upgrade_timeout_s=_UPGRADE_TIMEOUT_S
    )
    stop = program.stop_signal()
    listener = await TRANSPORTS[transport](DEFECTS[defect](), options)
    program.announce(f"ws://127.0.0.1:{listener.port}")
    await stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(program.run(_main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")))
