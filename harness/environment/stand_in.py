"""
A tiny server that stands where a daemon stands, to see what becomes of a reset on the way there.

Run as `python -m harness.environment.stand_in PORT`. Whoever connects gets "!" for each "?"; at
any other byte the connection is reset.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys

__all__ = ["ANSWER", "QUESTION", "RESET", "serve"]

QUESTION, ANSWER, RESET = b"?", b"!", b"R"
# Linger for no time: closing resets.
_AT_ONCE = struct.pack("ii", 1, 0)


def serve(listener: socket.socket) -> None:
    """Serve one after the other, until the listener is shut down."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            # Whoever goes away in the middle is no reason to end.
            with connection, contextlib.suppress(OSError):
                _answer(connection)


def _answer(connection: socket.socket) -> None:
    while (asked := connection.recv(1)) == QUESTION:
        connection.sendall(ANSWER)
    if asked:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)


if __name__ == "__main__":
    with socket.create_server(("", int(sys.argv[1]))) as everywhere:
        serve(everywhere)
