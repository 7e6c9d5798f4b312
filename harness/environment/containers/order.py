"""What container is wanted, and how one is: values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from harness.daemons.base import Limits

__all__ = ["BoxState", "Order", "Said"]

_NONE: Final = Limits(memory_bytes=None, cpus=None, processes=None, descriptors=None)


@dataclass(frozen=True, kw_only=True)
class Order:
    """
    A container that is wanted.

    Attributes:
        name: Its name, which nobody else has.
        command: What to run; None: what the image says.
        network: A network's name, or "host".
        address: Its fixed address on that network; None: the engine chooses.
        aliases: Its names on that network.
        ports: Published ports: inside, and the host and port outside.
        mounts: Folders of this machine, and where they stand inside.
        limits: How much it may use.
        user: Who runs it; None: whom the image says.
        pids_of: Another container, whose processes it sees.
        capabilities: What it may do beyond the usual.
    """

    name: str
    image: str
    run_id: str
    command: Sequence[str] | None = None
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    network: str
    address: str | None = None
    aliases: Sequence[str] = ()
    ports: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    mounts: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = _NONE
    user: str | None = None
    pids_of: str | None = None
    capabilities: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class BoxState:
    """
    How a container is.

    Attributes:
        status: The engine's word ("running", "paused", "exited", …), or "removed".
        exit_code: How it ended; None while it runs.
        oom_killed: Whether the kernel ended it for want of memory.
        pid: Its first process, as the engine's machine counts; 0 where there is none.
    """

    status: str
    exit_code: int | None = None
    oom_killed: bool = False
    pid: int = 0

    @property
    def alive(self) -> bool:
        """Whether it has processes."""
        return self.status in ("running", "paused", "restarting")


class Said(NamedTuple):
    """
    What a container wrote at once: a line, as a rule.

    Attributes:
        time_ns: When its engine received it, in nanoseconds of the engine's wall clock.
        text: What it was.
    """

    time_ns: int
    text: bytes
