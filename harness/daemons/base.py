"""What every daemon under test must tell about itself."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Final, Self

from harness.address import Address
from harness.complaints import Complaint, refused
from harness.daemons._container import Container
from harness.daemons._limits import Limits
from harness.daemons._provider import Provider
from harness.dialects.base import Dialect
from harness.dialects.exai import Exai

__all__ = ["Container", "Daemon", "Limits", "Provider"]

_LONGEST_S: Final = 86_400
_PATH: Final = re.compile(r'/[!"$-~]*')
# What HTTP calls a token: names of headers and of subprotocols.
_HTTP_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_VARIABLE: Final = re.compile(r"[^=\0]+")
_PROMISE: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True)
class Daemon(ABC):
    """
    A program that serves WebSocket clients.

    Backends take a Daemon; they know none by name.

    Attributes:
        type: Its name in the catalogue.
        address: Where it already runs; None where the harness starts it.
        dialect: The language it speaks.
        path: The path of its WebSocket address, query included.
        headers: Headers that its clients send with the upgrade; "{token}" in a value
            stands for the token.
        subprotocols: Subprotocols that its clients offer.
        token: The secret its clients show, None where it wants none. It reaches the
            daemon by the environment variable `token_variable`, never by its command.
        token_variable: That variable's name; None: its process gets no such variable.
        environment: Further environment variables of its process.
        directory: The working directory of its process; None: the caller's.
        start_timeout_s: How long it may take until it answers hello, in seconds.
        promises: What it promises, where its dialect cannot say.
        tls: Whether its address is wss://.
        ca_file: Certificates to trust; None: the system's.
        allow_remote: Leave to harm it on a machine that is not this one.
        container: How it runs in a container; None: it cannot.
        limits: What it may use of its machine.
        provider: What stands behind it and is started before it; None: nothing that we know of.

    Raises:
        InvalidValue: If a value is out of range; all complaints at once.
    """

    type: ClassVar[str]

    address: Address | None = None
    dialect: Dialect = field(default_factory=Exai)
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    subprotocols: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    token_variable: str | None = "EXAI_WS_TOKEN"  # noqa: S105 - the name of a variable, no secret
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    directory: Path | None = None
    start_timeout_s: float = 20.0
    promises: tuple[str, ...] = ()
    tls: bool = False
    ca_file: Path | None = None
    allow_remote: bool = False
    container: Container | None = None
    limits: Limits = field(default_factory=Limits)
    provider: Provider | None = None

    def __post_init__(self) -> None:
        complaints = self._complaints()
        if complaints:
            raise refused(self.type, complaints)

    def _complaints(self) -> list[Complaint]:
        """What is wrong with its values; of a secret only where it stands."""
        complaints = [*self._of_the_wire(), *self._of_the_process()]
        complaints += [
            ("promises", f'"{word}" is not allowed; letters, digits, "-" and "_"')
            for word in self.promises
            if not _PROMISE.fullmatch(word)
        ]
        if self.ca_file is not None and not self.tls:
            complaints.append(("ca_file", "means nothing without TLS"))
        return [*complaints, *self._of_the_provider()]

    def _of_the_wire(self) -> list[Complaint]:
        found = []
        if not _PATH.fullmatch(self.path):
            # Without the query, which may hold a secret.
            shown = self.path.partition("?")[0]
            why = 'a path begins with "/", has no "#", and is percent-encoded where it must be'
            found.append(("path", f'"{shown}" is not allowed; {why}'))
        for name, value in self.headers.items():
            where = f"headers.{name}"
            if not _HTTP_NAME.fullmatch(name):
                found.append((where, "is no name of a header"))
            if "{token}" in value and self.token is None:
                found.append((where, "wants a token, and none is given"))
            elif _UNPRINTABLE.search(value.replace("{token}", self.token or "")):
                found.append((where, "a line break, or the like, cannot stand in a header"))
        found += [
            ("subprotocols", f'"{name}" is no name of a subprotocol')
            for name in self.subprotocols
            if not _HTTP_NAME.fullmatch(name)
        ]
        return found

    def _of_the_process(self) -> list[Complaint]:
        found = []
        for name, value in self.environment.items():
            where = f"environment.{name}"
            if not _VARIABLE.fullmatch(name) or "\0" in value:
                found.append((where, 'a name has no "=", and neither it nor its value a NUL'))
            if name == self.token_variable:
                found.append((where, "is the token's variable; its value is the token"))
        if self.token_variable is not None and not _VARIABLE.fullmatch(self.token_variable):
            found.append(("token_variable", "is no name of an environment variable"))
        if not 0 < self.start_timeout_s <= _LONGEST_S:
            why = f"{self.start_timeout_s} is not allowed; seconds, more than 0 and at most a day"
            found.append(("start_timeout_s", why))
        return found

    def _of_the_provider(self) -> list[Complaint]:
        if self.provider is None:
            return []
        if self.address is not None:
            return [("provider", "is for a daemon that is started here, not for an address")]
        if self.container is not None and self.container.compose is not None:
            why = "is for a daemon without a Compose project, which has its own in it"
            return [("provider", why)]
        return []

    def _of_the_container(self) -> list[Complaint]:
        """Whether its container is told where its provider is; for those whose words it says."""
        if self.container is None or self.container.compose is not None:
            return []
        return told_of_provider(self.provider, self.container.names(), key="container.command")

    def finding(self, provider: Address) -> Self:
        """The same daemon, told where it finds its provider: the proxy before that."""
        assert self.provider is not None
        return replace(self, provider=replace(self.provider, at=provider))

    @property
    def _behind(self) -> dict[str, str]:
        """What {provider} stands for, once it is known."""
        known = None if self.provider is None else self.provider.at
        return {} if known is None else {"provider": str(known)}

    def url(self, address: Address) -> str:
        """Its URL, where it is reached at that address."""
        return f"{'wss' if self.tls else 'ws'}://{address}{self.path}"

    def sent_headers(self) -> dict[str, str]:
        """The headers as its clients send them, the token filled in."""
        token = self.token or ""
        return {name: value.replace("{token}", token) for name, value in self.headers.items()}

    @abstractmethod
    def command(self, *, host: str, port: int, effects: str) -> list[str]:
        """
        The command that starts it.

        Args:
            host: The address it must listen on.
            port: The port it must listen on.
            effects: The file that its effects go to, where it can write them.
        """

    def variables(self, *, host: str, port: int, effects: str) -> dict[str, str]:
        """The environment variables its process gets on top of the harness's own."""
        if self.token_variable is None:
            return dict(self.environment)
        # Empty where it wants none: what the caller's shell has set is for another daemon.
        return {**self.environment, self.token_variable: self.token or ""}

    def container_command(self, *, effects: str) -> list[str] | None:
        """
        The command of its container; None for what the image says.

        Args:
            effects: The file that its effects go to, in there.
        """
        assert self.container is not None
        command = self.container.command
        if command is None:
            return None
        told = {**self._behind, "effects": effects}
        return [self.container.filled(word, told) for word in command]

    def container_variables(self, *, effects: str) -> dict[str, str]:
        """The environment variables of its container, on top of the image's own."""
        assert self.container is not None
        told = {**self._behind, "effects": effects}
        given = {
            name: self.container.filled(value, told)
            for name, value in self.container.environment.items()
        }
        return (
            given
            if self.token_variable is None
            else {**given, self.token_variable: self.token or ""}
        )


def told_of_provider(
    provider: Provider | None, names: Collection[str], *, key: str
) -> list[Complaint]:
    """
    What is wrong with how a daemon is told where its provider is.

    Args:
        provider: What stands behind it.
        names: What stands in braces in what it is told.
        key: Where that is looked for first.
    """
    if provider is None and "provider" in names:
        return [(key, "{provider} stands for where its provider is, and none is given")]
    if provider is not None and "provider" not in names:
        why = "{provider} is neither here nor in environment"
        return [(key, f"{why}; the daemon would not know where its provider is")]
    return []
