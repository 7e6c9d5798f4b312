"""The configuration of a running daemon: read again on SIGHUP, changed by request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from harness.complaints import refused
from harness.dialects.exai import Fault, Reconfigure, Reconfigured
from harness.errors import InvalidValue
from harness.resilience.config import Change, Differences, Live, Loaded, Sources
from harness.resilience.config.sources import Given, Layer, of_arguments

__all__ = ["Configuring", "DaemonSources"]

log = logging.getLogger(__name__)


_OWN: Final = "the daemon's own"


@dataclass(frozen=True, kw_only=True)
class DaemonSources(Sources):
    """
    The sources of a configuration, between what this daemon begins with and what it was asked for.

    Attributes:
        requested: By "section.key", what was asked for while it runs; above all others.
    """

    requested: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def layers(self) -> list[Layer]:
        """Its own are below all others: much is let in, and no client acknowledges anything."""
        own = Layer(
            preset=Given(value="production", origin=_OWN),
            values={"connections.keep": Given(value="until_sent", origin=_OWN)},
        )
        return [own, *super().layers(), of_arguments(self.requested, origin="request")]

    def load(self) -> Loaded:
        """
        Read all of them.

        Raises:
            InvalidValue: With everything that is wrong, or asks for what this daemon cannot do.
        """
        loaded = super().load()
        keep = loaded.config.connections.keep
        if keep != "until_sent":
            why = f'"{keep}" cannot be: clients of this protocol acknowledge nothing'
            where = loaded.origin("connections.keep")
            raise refused("configuration", [("connections.keep", f"{why} ({where})")])
        return loaded


class Configuring:
    """
    Takes up changes, whole or not at all, and says what came of them.

    Args:
        live: The configuration.
        note: Told of each change, taken up or refused.
    """

    def __init__(self, live: Live, note: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._live = live
        self._note = note

    def reload(self) -> Differences:
        """
        Read file and variables again.

        Raises:
            InvalidValue: With all that is wrong; nothing has changed then.
        """
        return self._noted("the sources", self._live.reload)

    def change(self, values: Mapping[str, Any]) -> Differences:
        """
        Put values, by "section.key", above whatever the sources say.

        Raises:
            InvalidValue: With all that is wrong; nothing has changed then.
        """
        sources = self._live.loaded.sources
        assert isinstance(sources, DaemonSources)
        requested = {**sources.requested, **{k: _given(v) for k, v in values.items()}}
        changed = replace(sources, requested=requested)
        return self._noted("a request", lambda: self._live.apply(changed.load()))

    def on_signal(self) -> None:
        """SIGHUP: reload, and log what came of it; a broken file changes nothing."""
        try:
            found = self.reload()
        except InvalidValue as error:
            log.warning("configuration: nothing changed, %s", error)
        else:
            log.info(
                "configuration: read again, changed %s; at the next start %s",
                ", ".join(map(str, found.live)) or "nothing",
                ", ".join(map(str, found.restart)) or "nothing",
            )

    def by_request(self, request: Reconfigure) -> Reconfigured:
        """Answer a `reconfigure`."""
        try:
            found = self.change(request.values)
        except InvalidValue as error:
            fault = Fault("VALIDATION_ERROR", error.headline, {"problems": dict(error.details)})
            return Reconfigured(request.request_id, ok=False, error=fault)
        return Reconfigured(
            request.request_id, ok=True, changed=_values(found.live), pending=_values(found.restart)
        )

    def _noted(self, whence: str, act: Callable[[], Differences]) -> Differences:
        try:
            found = act()
        except InvalidValue as error:
            self._note("configuration refused", {"from": whence, "why": str(error)})
            raise
        changed, pending = _values(found.live), _values(found.restart)
        about = {"from": whence, "changed": changed, "pending": pending}
        self._note("configuration applied", about)
        return found


def _given(value: Any) -> Any:
    # JSON's null stands for what a file calls "none".
    return "none" if value is None else value


def _values(changes: tuple[Change, ...]) -> dict[str, Any]:
    return {change.name: change.new for change in changes}
