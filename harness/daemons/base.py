"""What every daemon under test must tell about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from harness.dialects.base import Dialect
from harness.dialects.exai import Exai

__all__ = ["Daemon"]


@dataclass(frozen=True, kw_only=True)
class Daemon(ABC):
    """
    A program that serves WebSocket clients.

    Backends take a Daemon; they know none by name.

    Attributes:
        type: Its name in the catalogue.
        dialect: The language it speaks.
        path: The path of its WebSocket address.
        headers: Headers that its clients send with the upgrade.
        subprotocols: Subprotocols that its clients offer.
        token: The secret its clients show, None where it wants none. It reaches the
            daemon by the environment variable `token_variable`, never by its command.
        environment: Further environment variables of its process.
        start_timeout_s: How long it may take until it answers hello, in seconds.
    """

    type: ClassVar[str]

    dialect: Dialect = field(default_factory=Exai)
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    subprotocols: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    token_variable: str = "EXAI_WS_TOKEN"  # noqa: S105 - the name of a variable, no secret
    environment: Mapping[str, str] = field(default_factory=dict)
    start_timeout_s: float = 20.0

    @abstractmethod
    def command(self, *, host: str, port: int, effects: str) -> list[str]:
        """
        The command that starts it.

        Args:
            host: The address it must listen on.
            port: The port it must listen on.
            effects: The file that its effects go to, where it can write them.
        """

    def variables(self) -> dict[str, str]:
        """The environment variables its process gets on top of the harness's own."""
        # Empty where it wants none: what the caller's shell has set is for another daemon.
        return {**self.environment, self.token_variable: self.token or ""}
