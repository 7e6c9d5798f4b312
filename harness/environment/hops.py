"""The stretches of the way: what stands on each, and what a fault there acts upon."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from harness.environment.parts import Site
from harness.errors import InvalidValue

__all__ = ["EDGE", "HOPS", "PROVIDER", "Hop", "HopName", "refuse_no_hop"]

HopName = Literal["edge", "provider"]
"""A stretch between two programs: client to daemon, daemon to provider."""

HOPS: Final[tuple[HopName, ...]] = get_args(HopName)
EDGE: Final = "edge"
PROVIDER: Final = "provider"


@dataclass(frozen=True, kw_only=True, eq=False)
class Hop:
    """
    One stretch, while it is there.

    Attributes:
        name: "edge" or "provider".
        proxy: The name of the proxy on it, in its server's API.
        site: Who is at its far end: faults that harm a process harm this one.
        tightened: The limits of that which faults in place have tightened, by fault.
    """

    name: HopName
    proxy: str
    site: Site
    tightened: dict[object, dict[str, Any]] = field(default_factory=dict)


def refuse_no_hop(name: object) -> None:
    """
    See that it is the name of a hop.

    Raises:
        InvalidValue: If it is none.
    """
    if name not in HOPS:
        raise InvalidValue(
            f"{name!r} is no hop; expected one of {', '.join(HOPS)}",
            [("edge", "client to daemon"), ("provider", "daemon to the provider behind it")],
        )
