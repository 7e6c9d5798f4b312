"""
All that can be set: the sections, and what may not be true between them.

A section is a field of `Config`; its keys, their ranges and their variables stand beside the
component that goes by them. Adding one is one line here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, get_type_hints

from harness.complaints import refused
from harness.resilience.admission import AdmissionSettings
from harness.resilience.alerts import AlertSettings
from harness.resilience.backoff import RetrySettings
from harness.resilience.breaker import BreakerSettings
from harness.resilience.config.provider import ProviderSettings
from harness.resilience.config.server import MonitorSettings, ServerSettings
from harness.resilience.connections import ConnectionSettings
from harness.resilience.idempotency import IdempotencySettings
from harness.resilience.metrics import MetricsSettings
from harness.resilience.settings import Key, Settings, keys_of

__all__ = ["KEYS", "SECTIONS", "Config", "contradictions"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """
    The configuration of a daemon and of what makes it cope.

    Raises:
        InvalidValue: If sections contradict one another. Each has checked itself.
    """

    server: ServerSettings = field(default_factory=ServerSettings)
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    connections: ConnectionSettings = field(default_factory=ConnectionSettings)
    idempotency: IdempotencySettings = field(default_factory=IdempotencySettings)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    provider: ProviderSettings = field(default_factory=ProviderSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)

    def __post_init__(self) -> None:
        complaints = [(names[0], text) for names, text in contradictions(self)]
        if complaints:
            raise refused("Config", complaints)

    def value(self, name: str) -> Any:
        """The value of "section.key"."""
        section, _, key = name.partition(".")
        return getattr(getattr(self, section), key)


def contradictions(config: Config) -> Iterable[tuple[tuple[str, ...], str]]:
    """
    What is wrong between sections that are right by themselves.

    Yields:
        The keys as "section.key", the one to complain of first, and a sentence.
    """
    let_in, remembered = config.admission.max_sessions, config.connections.max_sessions
    if let_in > remembered:
        yield (
            ("admission.max_sessions", "connections.max_sessions"),
            f"{let_in} is more than connections.max_sessions, {remembered}; sessions that are"
            " let in have to be remembered",
        )


def _sections() -> Mapping[str, type[Settings]]:
    hints = get_type_hints(Config)
    return {each.name: hints[each.name] for each in fields(Config)}


SECTIONS: Final[Mapping[str, type[Settings]]] = _sections()
"""The class of each section, in the order they are written."""

KEYS: Final[Mapping[str, Key]] = {
    f"{section}.{name}": rules
    for section, settings in SECTIONS.items()
    for name, rules in keys_of(settings).items()
}
"""The rules of each "section.key"."""
