"""Networks of a test's own, where there is room for them."""

from __future__ import annotations

from harness.environment.backends import engine
from harness.environment.networks import subnets

__all__ = ["a_network"]


def a_network(name: str) -> str:
    """Make a network of a run of that name. Returns its subnet."""
    for subnet in subnets(name):
        where = {"subnet": str(subnet), "gateway": str(subnet[1])}
        if engine().make_network(name, run_id=name, **where):
            return str(subnet)
    raise AssertionError("no subnet is free")
