"""
The presets: for each, what differs from the defaults of the classes.

Rule: a preset names a key only where it has a reason to differ; what it says stands in
`ABOUT` for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["ABOUT", "PRESETS"]

ABOUT: Final[Mapping[str, str]] = {
    "development": "one person, one machine: what is wrong shows soon, and heals soon",
    "production": "many clients, perhaps all behind one proxy: patient, and admits much",
    "testing": "everything is short, and no message is turned away for its rate",
}
"""What each preset is for."""

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "development": {
        "connections.idle_s": 60.0,
        "connections.repeat_ttl_s": 60.0,
        "breaker.failures": 3,
        "breaker.open_s": 30.0,
        "retry.cap_s": 5.0,
    },
    "production": {
        "server.drain_s": 8.0,
        # Behind a proxy every client has the proxy's address.
        "admission.max_connections": 2000,
        "admission.max_connections_per_address": 2000,
        "admission.max_sessions": 2000,
        "admission.max_inflight": 256,
        "admission.messages_per_s": 50_000.0,
        "admission.burst_messages": 100_000,
        "admission.messages_per_s_per_address": 50_000.0,
        "admission.burst_messages_per_address": 100_000,
        # One session may be the only one, and a fast one.
        "admission.messages_per_s_per_session": 50_000.0,
        "admission.burst_messages_per_session": 100_000,
        # Those who come back are remembered beside those who are there.
        "connections.max_sessions": 5000,
        "connections.repeat_ttl_s": 600.0,
        "breaker.failures": 10,
        "breaker.open_s": 120.0,
        "retry.cap_s": 60.0,
    },
    "testing": {
        "server.hello_timeout_s": 2.0,
        "server.call_timeout_s": 30.0,
        "server.progress_interval_s": 1.0,
        "server.drain_s": 1.0,
        # Tests come from one address, and in floods.
        "admission.max_connections_per_address": 1000,
        "admission.max_sessions": 1000,
        "admission.messages_per_s": None,
        "admission.messages_per_s_per_address": None,
        "admission.messages_per_s_per_session": None,
        "connections.ping_interval_s": 1.0,
        "connections.ping_timeout_s": 1.0,
        "connections.idle_s": 30.0,
        "connections.session_ttl_s": 30.0,
        "connections.message_ttl_s": 30.0,
        "connections.repeat_ttl_s": 30.0,
        "connections.shutdown_s": 5.0,
        "breaker.failures": 2,
        "breaker.open_s": 1.0,
        "breaker.half_open_s": 5.0,
        "retry.base_s": 0.01,
        "retry.cap_s": 1.0,
        "retry.proof_s": 0.5,
        "metrics.client_ttl_s": 30.0,
        "metrics.clean_up_interval_s": 1.0,
    },
}
"""By name and "section.key"."""
