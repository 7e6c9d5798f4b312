"""Anybody's daemon that a command starts."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from harness.complaints import Complaint
from harness.daemons.base import Daemon, told_of_provider

__all__ = ["Command"]

# ${port} is a variable of whatever shell the command may be.
_PLACEHOLDER: Final = re.compile(r"(?<!\$)\{(port|host|effects|provider|python|token)\}")


@dataclass(frozen=True, kw_only=True)
class Command(Daemon):
    """
    A program with the port it is to listen on in its arguments or its environment.

    These stand for what is known when it starts, in `template` and in the values of
    `environment`: {port}, {host}, {effects} (the file its effects go to, if it can write
    them), {provider} (where its provider is, if it has one) and {python} (the interpreter that
    runs the tests). Other braces stay as they are.

    Args:
        template: The program and its arguments. No shell reads them.
    """

    type: ClassVar[str] = "command"

    template: tuple[str, ...]
    # What a stranger's daemon calls its token nobody can guess.
    token_variable: str | None = None

    def _complaints(self) -> list[Complaint]:
        complaints = super()._complaints()
        if not self.template or not self.template[0]:
            complaints.append(("template", "is empty; expected a program and its arguments"))
        if any("\0" in word for word in self.template):
            complaints.append(("template", "a NUL cannot stand in a command"))
        texts = [("template", word) for word in self.template]
        texts += [(f"environment.{name}", value) for name, value in self.environment.items()]
        used: dict[str, str] = {}
        for where, text in texts:
            used |= dict.fromkeys(_PLACEHOLDER.findall(text), where)
        if self.template and "port" not in used:
            why = "{port} is neither here nor in environment; the daemon would not know its port"
            complaints.append(("template", why))
        if "token" in used:
            why = "{token} is for headers; the process gets it by the variable token_variable"
            complaints.append((used["token"], why))
        if self.template:
            key = used.get("provider", "template")
            complaints += told_of_provider(self.provider, used, key=key)
        return [*complaints, *self._of_the_container()]

    def command(self, *, host: str, port: int, effects: str) -> list[str]:
        """The template, filled in."""
        told = self._told(host=host, port=port, effects=effects)
        return [_filled(word, told) for word in self.template]

    def variables(self, *, host: str, port: int, effects: str) -> dict[str, str]:
        """Its environment, filled in, and the token."""
        told = self._told(host=host, port=port, effects=effects)
        filled = {name: _filled(value, told) for name, value in self.environment.items()}
        return super().variables(host=host, port=port, effects=effects) | filled

    def _told(self, *, host: str, port: int, effects: str) -> dict[str, str]:
        where = {"host": host, "port": str(port)}
        return {**self._behind, **where, "effects": effects, "python": sys.executable}


def _filled(text: str, told: Mapping[str, str]) -> str:
    # In one go: a path that was filled in may have braces of its own.
    return _PLACEHOLDER.sub(lambda found: told.get(found[1], found[0]), text)
