"""How a daemon runs in a container: an image, a Dockerfile, or a service of a Compose project."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.errors import InvalidValue

__all__ = ["Container"]

_IMAGE: Final = re.compile(r"[a-z0-9][a-z0-9._/:@-]*[a-z0-9A-Z_.-]+")
# ${port} is a variable of whatever shell there may be.
_PLACEHOLDER: Final = re.compile(r"(?<!\$)\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class Container:
    """
    A container image and what it is told. Exactly one of `image`, `build` and `compose`.

    In `command` and in the values of `environment` these stand for what is known when it
    starts: {port}, {host} (where to listen); of a daemon {effects} (the file its effects go to)
    and {provider} (where its provider is, if it has one); of a provider {executions} (the file
    its executions go to).

    Args:
        image: An image's name.
        build: A folder with a Dockerfile, or the Dockerfile itself.
        compose: A Compose file; `service` names the daemon in it.
        port: The port that the daemon listens on, in there.
        command: What to run; None: what the image says.
        environment: Further environment variables.

    Raises:
        InvalidValue: If a value is out of range; all complaints at once.
    """

    image: str | None = None
    build: Path | None = None
    compose: Path | None = None
    service: str | None = None
    port: int
    command: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        complaints = list(self._complaints())
        if complaints:
            problems = "1 problem" if len(complaints) == 1 else f"{len(complaints)} problems"
            raise InvalidValue(f"container: {problems}", complaints)

    def _complaints(self) -> Sequence[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        kinds = {"image": self.image, "build": self.build, "compose": self.compose}
        given = [name for name, value in kinds.items() if value is not None]
        if len(given) != 1:
            many = f"found {', '.join(given)}" if given else "found none of them"
            found.append(("image", f"expected one of image, build and compose; {many}"))
        if self.image is not None and not _IMAGE.fullmatch(self.image):
            found.append(("image", f'"{self.image}" is no name of an image'))
        if self.compose is not None and self.service is None:
            found.append(("service", "is missing: which service of the Compose project is it?"))
        if self.compose is None and self.service is not None:
            found.append(("service", "means nothing without compose"))
        if self.compose is not None and (self.command is not None or self.environment):
            why = "stands in the Compose file"
            found.append(("command" if self.command is not None else "environment", why))
        if not 0 < self.port <= 65535:
            found.append(("port", f"{self.port} is no port; expected 1 to 65535"))
        if self.command is not None and not self.command:
            found.append(("command", "is empty; leave it out for what the image says"))
        texts = [("command", word) for word in self.command or ()]
        texts += [(f"environment.{name}", value) for name, value in self.environment.items()]
        for where, text in texts:
            if "{token}" in text:
                why = "{token} is for headers; the container gets it by the variable token_variable"
                found.append((where, why))
            if "\0" in text:
                found.append((where, "a NUL cannot stand here"))
        return found

    def names(self) -> set[str]:
        """What stands in braces in its command and its environment."""
        texts = [*(self.command or ()), *self.environment.values()]
        return {name for text in texts for name in _PLACEHOLDER.findall(text)}

    def filled(self, text: str, told: Mapping[str, str]) -> str:
        """
        A text with what is known when the container starts; other braces stay as they are.

        Args:
            text: A word of its command, or a value of its environment.
            told: What stands for what, beside where it listens.
        """
        values = {**told, "host": "0.0.0.0", "port": str(self.port)}
        # In one go: a path that was filled in may have braces of its own.
        return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)
