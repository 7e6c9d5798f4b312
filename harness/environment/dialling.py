"""A session with a daemon, as the daemon wants to be spoken to."""

from __future__ import annotations

from harness.address import Address
from harness.client.session import Session
from harness.daemons.base import Daemon
from harness.history import Recorder, Silent

__all__ = ["session_with"]


def session_with(
    daemon: Daemon,
    address: Address,
    *,
    process: str,
    via: Address | None = None,
    session_id: str | None = None,
    recorder: Recorder | None = None,
    call_timeout_s: float = 2.0,
    open_timeout_s: float = 5.0,
) -> Session:
    """
    An unopened session.

    Args:
        daemon: With whom.
        address: Its own address.
        process: The session's name in the record.
        via: Where to connect instead; Host, SNI and certificate stay those of `address`.
        session_id: The session to ask for.
        recorder: Where ops go.
        call_timeout_s: The time limit of a call that brings none of its own, in seconds.
        open_timeout_s: Bounds connecting, upgrade and hello together, in seconds.
    """
    return Session(
        daemon.url(address),
        dialect=daemon.dialect,
        process=process,
        token=daemon.token,
        session_id=session_id,
        headers=daemon.sent_headers(),
        subprotocols=daemon.subprotocols,
        recorder=Silent() if recorder is None else recorder,
        call_timeout_s=call_timeout_s,
        open_timeout_s=open_timeout_s,
        via=via,
        ca_file=daemon.ca_file,
        promises=daemon.promises,
        allow_remote=daemon.allow_remote,
    )
