"""
Put a WebSocket MCP daemon behind a fault-injecting proxy and see whether it copes.

Import what you need from the room it lives in: `harness.environment` brings a
daemon and a proxy up, `harness.faults` holds the harms, `harness.client` speaks
to the daemon. This module stays empty so that every program starts fast.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
