"""What stands behind a daemon: how it is started, and when it is ready."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.address import Address
from harness.complaints import Complaint, refused
from harness.daemons._container import Container
from harness.daemons._limits import Limits
from harness.errors import InvalidValue

__all__ = ["Provider"]

_LONGEST_S: Final = 86_400
# ${port} is a variable of whatever shell the command may be.
_PLACEHOLDER: Final = re.compile(r"(?<!\$)\{(port|host|executions|python)\}")
_VARIABLE: Final = re.compile(r"[^=\0]+")
_PATH: Final = re.compile(r'/[!"$-~]*')


@dataclass(frozen=True, kw_only=True)
class Provider:
    """
    A program that a daemon calls, over a connection of its own.

    These stand for what is known when it starts, in `template` and in the values of
    `environment`: {port}, {host}, {executions} (the file its executions go to, if it can write
    them) and {python} (the interpreter that runs the tests). Other braces stay as they are.

    Args:
        template: The program and its arguments, which no shell reads; () for one that runs in a
            container only.
        environment: Further environment variables of its process.
        directory: The working directory of its process; None: the caller's.
        start_timeout_s: How long it may take until it is ready, in seconds.
        ready_path: What a GET of is answered with 200 once it is ready; None: it speaks no HTTP,
            and a port that accepts has to do.
        container: How it runs in a container; None: it cannot.
        limits: What it may use of its machine.
        at: Where the daemon finds it, once that is known: the proxy before it.

    Raises:
        InvalidValue: If a value is out of range; all complaints at once.
    """

    template: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    directory: Path | None = None
    start_timeout_s: float = 20.0
    ready_path: str | None = "/health"
    container: Container | None = None
    limits: Limits = field(default_factory=Limits)
    at: Address | None = None

    def __post_init__(self) -> None:
        complaints = [*self._of_the_command(), *self._of_the_rest()]
        if complaints:
            raise refused("provider", complaints)

    def _of_the_command(self) -> list[Complaint]:
        found: list[Complaint] = []
        if not self.template and self.container is not None:
            return found
        if not self.template or not self.template[0]:
            found.append(("template", "is empty; expected a program and its arguments"))
        if any("\0" in word for word in self.template):
            found.append(("template", "a NUL cannot stand in a command"))
        texts = [*self.template, *self.environment.values()]
        if self.template and "port" not in {
            n for text in texts for n in _PLACEHOLDER.findall(text)
        }:
            why = "{port} is neither here nor in environment; it would not know its port"
            found.append(("template", why))
        return found

    def _of_the_rest(self) -> list[Complaint]:
        found: list[Complaint] = [
            (f"environment.{name}", 'a name has no "=", and neither it nor its value a NUL')
            for name, value in self.environment.items()
            if not _VARIABLE.fullmatch(name) or "\0" in value
        ]
        if not 0 < self.start_timeout_s <= _LONGEST_S:
            why = f"{self.start_timeout_s} is not allowed; seconds, more than 0 and at most a day"
            found.append(("start_timeout_s", why))
        if self.ready_path is not None and not _PATH.fullmatch(self.ready_path):
            why = 'a path begins with "/", has no "#", and is percent-encoded where it must be'
            found.append(("ready_path", f'"{self.ready_path}" is not allowed; {why}'))
        if self.container is not None and self.container.compose is not None:
            found.append(("container", "is a Compose project, of which a provider is no part"))
        return found

    def command(self, *, host: str, port: int, executions: str) -> list[str]:
        """
        The command that starts it.

        Args:
            host: The address it must listen on.
            port: The port it must listen on.
            executions: The file that its executions go to, where it can write them.

        Raises:
            InvalidValue: If it runs in a container only.
        """
        if not self.template:
            raise InvalidValue(
                "this provider runs in a container only; no command is known that starts it here",
                [
                    ("next", "the backend docker: --harness-backend docker, for instance"),
                    ("or", "give its command in [tool.harness.daemon.provider]"),
                ],
            )
        told = _told(host=host, port=port, executions=executions)
        return [_filled(word, told) for word in self.template]

    def variables(self, *, host: str, port: int, executions: str) -> dict[str, str]:
        """The environment variables its process gets on top of the harness's own."""
        told = _told(host=host, port=port, executions=executions)
        return {name: _filled(value, told) for name, value in self.environment.items()}

    def container_command(self, *, executions: str) -> list[str] | None:
        """
        The command of its container; None for what the image says.

        Args:
            executions: The file that its executions go to, in there.
        """
        container = self.container
        assert container is not None
        if container.command is None:
            return None
        return [container.filled(word, {"executions": executions}) for word in container.command]

    def container_variables(self, *, executions: str) -> dict[str, str]:
        """The environment variables of its container, on top of the image's own."""
        container = self.container
        assert container is not None
        return {
            name: container.filled(value, {"executions": executions})
            for name, value in container.environment.items()
        }


def _told(*, host: str, port: int, executions: str) -> dict[str, str]:
    return {"host": host, "port": str(port), "executions": executions, "python": sys.executable}


def _filled(text: str, told: Mapping[str, str]) -> str:
    # In one go: a path that was filled in may have braces of its own.
    return _PLACEHOLDER.sub(lambda found: told[found[1]], text)
