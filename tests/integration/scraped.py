"""A page of metrics, read by Prometheus' own parser, and what changed between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Page", "bucket_of"]


class Page:
    """
    One page, or the difference of two.

    Args:
        samples: By name and labels.
    """

    def __init__(self, samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]) -> None:
        self._samples = dict(samples)

    @classmethod
    def read(cls, text: str) -> Page:
        """As Prometheus reads it. No sample may come twice."""
        samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = (sample.name, frozenset(sample.labels.items()))
                assert name not in samples, name
                samples[name] = sample.value
        return cls(samples)

    def since(self, earlier: Page) -> Page:
        """What was added meanwhile."""
        return Page(
            {name: value - earlier._samples.get(name, 0) for name, value in self._samples.items()}
        )

    def value(self, name: str, **labels: str) -> float:
        """One figure; `harness_` is put before its name."""
        return self._samples[f"harness_{name}", frozenset(labels.items())]

    def where(self, name: str, **labels: str) -> list[float]:
        """The figures of that whole name, whatever other labels they have."""
        return [
            value
            for (found, had), value in self._samples.items()
            if found == name and labels.items() <= dict(had).items()
        ]

    def by(self, name: str, label: str) -> dict[str, float]:
        """A figure by its one label; those that are 0 left out."""
        return {
            dict(labels)[label]: value
            for (found, labels), value in self._samples.items()
            if found == f"harness_{name}" and value
        }

    def counts(self, name: str) -> dict[float, int]:
        """A histogram's counts, by the upper end of each bucket in nanoseconds."""
        ends = sorted(
            (float(dict(labels)["le"]) * 1e9, int(value))
            for (found, labels), value in self._samples.items()
            if found == f"harness_{name}_bucket"
        )
        return {end: more - less for (_, less), (end, more) in pairwise([(0.0, 0), *ends])}


def bucket_of(value: float, ends: list[float]) -> float:
    """The upper end of the bucket that a value belongs to."""
    return min(end for end in ends if value <= end)
