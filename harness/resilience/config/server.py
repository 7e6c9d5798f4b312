"""What the daemon itself is told: where it listens, how large things are, how long they take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from harness.resilience.settings import Settings, key

__all__ = ["MonitorSettings", "ServerSettings"]

_DAY_S: Final = 86_400
_GB: Final = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class ServerSettings(Settings):
    """
    Where a daemon listens, and the bounds of one connection and one call.

    What is handed to the listening socket needs a restart; the rest is read each time it is needed.
    """

    host: str = key(
        "127.0.0.1",
        about="the address to listen on",
        variable="EXAI_WS_HOST",
        live=False,
        advice="0.0.0.0 only behind a proxy or in a container, and with a token",
    )
    port: int = key(
        8079,
        about="the port to listen on; 0 lets the system choose",
        low=0,
        high=65_535,
        variable="EXAI_WS_PORT",
        live=False,
    )
    token: str = key(
        "",
        about="what a hello must carry; empty asks for none",
        variable="EXAI_WS_TOKEN",
        live=False,
        secret=True,
        advice="set it wherever others reach the port",
    )
    admin_token: str = key(
        "",
        about="what a change of the configuration must carry; empty allows none but by SIGHUP",
        variable="EXAI_WS_ADMIN_TOKEN",
        live=False,
        secret=True,
        advice="another than the clients' token",
    )
    max_message_bytes: int = key(
        33_554_432,
        about="the largest message; a larger one closes its connection with 1009",
        low=1,
        high=_GB,
        variable="EXAI_WS_MAX_BYTES",
        live=False,
        advice="connections times this is what memory may have to hold",
    )
    max_call_bytes: int = key(
        10_485_760,
        about="the largest call; a larger one is refused and its connection stays",
        low=1,
        high=_GB,
        variable="TOOL_CALL_MAX_SIZE",
    )
    hello_timeout_s: float = key(
        15.0,
        about="how long a peer may take over its hello",
        above=0,
        high=_DAY_S,
        variable="EXAI_WS_HELLO_TIMEOUT",
        live=False,
    )
    call_timeout_s: float = key(
        300.0,
        about="how long a call may run",
        above=0,
        high=_DAY_S,
        variable="EXAI_WS_CALL_TIMEOUT",
        advice="longer than the slowest tool, shorter than its clients wait",
    )
    close_timeout_s: float = key(
        1.0,
        about="how long a peer may take over its close frame",
        above=0,
        high=_DAY_S,
        variable="EXAI_WS_CLOSE_TIMEOUT",
        live=False,
    )
    progress_interval_s: float = key(
        5.0,
        about="how often a running call is told of",
        above=0,
        high=_DAY_S,
        variable="EXAI_WS_PROGRESS_INTERVAL_SECS",
        advice="shorter than the silence after which clients hang up; some do after 8 s",
    )
    slow_reader_s: float = key(
        30.0,
        about="how long a peer may leave more than connections.high_water_bytes unread; then it is"
        " closed with 1008",
        above=0,
        high=_DAY_S,
    )
    drain_s: float = key(
        5.0,
        about="how long running calls may go on after the daemon was asked to end",
        low=0,
        high=_DAY_S,
        advice="shorter than what stops the daemon waits before it kills; Docker waits 10 s",
    )

    def contradictions(self) -> Iterable[tuple[tuple[str, ...], str]]:
        """A call is a message; and without a host every address would be listened on."""
        if not self.host:
            yield ("host",), 'is empty; expected an address, such as "127.0.0.1"'
        if self.max_call_bytes > self.max_message_bytes:
            yield (
                ("max_call_bytes", "max_message_bytes"),
                f"{self.max_call_bytes} is more than max_message_bytes, {self.max_message_bytes};"
                " no call can be larger than a message",
            )


@dataclass(frozen=True, kw_only=True)
class MonitorSettings(Settings):
    """Where the daemon tells how it is; it is read when the daemon starts."""

    host: str = key(
        "127.0.0.1",
        about="the address to listen on",
        variable="EXAI_MONITOR_HOST",
        live=False,
        advice="another than loopback only where those who reach it may read all of it",
    )
    port: int | None = key(
        None,
        about='the port to listen on; 0 lets the system choose, "none" listens nowhere',
        low=0,
        high=65_535,
        variable="EXAI_MONITOR_PORT",
        live=False,
    )

    def contradictions(self) -> Iterable[tuple[tuple[str, ...], str]]:
        """Without a host every address would be listened on."""
        if not self.host:
            yield ("host",), 'is empty; expected an address, such as "127.0.0.1"'
