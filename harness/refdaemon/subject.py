"""What a monitor asks of what it monitors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from harness.refdaemon.events import Events

if TYPE_CHECKING:
    # An extra; who has it not can be monitored all the same.
    from prometheus_client.core import Metric

__all__ = ["Health", "Subject"]


@dataclass(frozen=True, kw_only=True)
class Health:
    """
    How a daemon is.

    Attributes:
        live: Whether it works at all; one that is not wants to be started anew.
        ready: Whether a hello would succeed now.
        why_not: What speaks against either, in words; empty where both are true.
    """

    live: bool
    ready: bool
    why_not: tuple[str, ...] = ()


class Subject(Protocol):
    """What is monitored. Nothing here awaits."""

    @property
    def events(self) -> Events:
        """What happened of late."""

    def health(self) -> Health:
        """How it is now."""

    def families(self) -> Iterable[Metric]:
        """Its metrics; asked only where `prometheus_client` is there."""

    def status(self) -> Mapping[str, Any]:
        """All there is to know, JSON-able."""

    def reload(self) -> Mapping[str, Any]:
        """
        Read the configuration's sources again; what changed, JSON-able.

        Raises:
            InvalidValue: With all that is wrong; then nothing has changed.
        """

    def reconfigure(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Change values, by "section.key"; what changed, JSON-able.

        Raises:
            InvalidValue: With all that is wrong; then nothing has changed.
        """
