"""Sessions that outlive their connections."""

from harness.resilience.connections.connections import Connections
from harness.resilience.connections.values import (
    GOING_AWAY,
    ConnectionSettings,
    Delivery,
    End,
    Farewell,
    Message,
    Transport,
    digest_of,
)

__all__ = [
    "GOING_AWAY",
    "ConnectionSettings",
    "Connections",
    "Delivery",
    "End",
    "Farewell",
    "Message",
    "Transport",
    "digest_of",
]
