"""Anybody's daemon that runs in a container only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from harness.complaints import Complaint
from harness.daemons._container import Container
from harness.daemons.base import Daemon
from harness.errors import InvalidValue

__all__ = ["Containerized"]


@dataclass(frozen=True, kw_only=True)
class Containerized(Daemon):
    """
    A daemon of which an image, a Dockerfile or a Compose project is known, and no command.

    Args:
        container: Which.
    """

    type: ClassVar[str] = "container"

    # field() takes away the default that the base has.
    container: Container = field()
    # What a stranger's daemon calls its token nobody can guess.
    token_variable: str | None = None

    def _complaints(self) -> list[Complaint]:
        return [*super()._complaints(), *self._of_the_container()]

    def command(self, *, host: str, port: int, effects: str) -> list[str]:
        """
        There is none.

        Raises:
            InvalidValue: Always.
        """
        raise InvalidValue(
            "this daemon runs in a container only; no command is known that starts it here",
            [
                ("next", "--harness-backend docker, or harness_backend in pytest's ini file"),
                ("or", "give its command in [tool.harness.daemon]"),
            ],
        )
