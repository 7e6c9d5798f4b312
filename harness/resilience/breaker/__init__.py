"""A circuit breaker, and one for each peer."""

from harness.resilience.breaker.automaton import Breaker, Observer
from harness.resilience.breaker.counting import KINDS, Counting, Verdict
from harness.resilience.breaker.permit import Permit
from harness.resilience.breaker.registry import Breakers
from harness.resilience.breaker.values import BreakerReport, BreakerSettings, State, Transition

__all__ = [
    "KINDS",
    "Breaker",
    "BreakerReport",
    "BreakerSettings",
    "Breakers",
    "Counting",
    "Observer",
    "Permit",
    "State",
    "Transition",
    "Verdict",
]
