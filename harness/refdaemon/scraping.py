"""A page for Prometheus, by its own client. Needs the extra `metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

__all__ = ["page"]


class _Families(Collector):
    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()


def page(families: Callable[[], Iterable[Metric]], *, accept: str) -> tuple[str, bytes]:
    """
    What a scrape gets.

    Args:
        families: Makes the families.
        accept: The scraper's Accept header: OpenMetrics where it asks for that, else text.

    Returns:
        The content type and the page.
    """
    # Made for this page alone: a registry that is asked for nothing beforehand needs no names.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)
