"""Which images are needed, and what is known of one that is here: values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.daemons.reference import IMAGE as DAEMON_IMAGE
from harness.environment.images import daemon, toxiproxy
from harness.environment.images.workshop import Workshop

if TYPE_CHECKING:
    from harness.environment.containers import Engine

__all__ = ["DAEMON", "DAEMON_IMAGE", "IMAGES", "TOXIPROXY", "TOXIPROXY_IMAGE", "Image"]

TOXIPROXY_IMAGE: Final = f"ws-harness-toxiproxy:{toxiproxy.VERSION}"
"""What the image of the real Toxiproxy is called here, pulled or made."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """
    An image that is needed.

    Attributes:
        name: What it is called here, wherever it comes from.
        bring: Brings it into the engine, under a name; says how.
        inputs: A digest of what it is made of here; "" where its name says it all.
    """

    name: str
    bring: Callable[[Engine, Workshop, str, bool], str]
    inputs: Callable[[], str] = lambda: ""

    @property
    def tag(self) -> str:
        """The name of the very one that is needed today."""
        inputs = self.inputs()
        return f"{self.name}-{inputs}" if inputs else self.name


DAEMON: Final = Image(
    name=DAEMON_IMAGE,
    bring=daemon.bring,
    inputs=daemon.inputs,
)

TOXIPROXY: Final = Image(name=TOXIPROXY_IMAGE, bring=toxiproxy.bring)

IMAGES: Final = (DAEMON, TOXIPROXY)
"""All that are needed."""
