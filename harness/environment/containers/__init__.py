"""
The container engine, spoken to. Nothing else here imports Docker's packages.

All calls block and are bounded; whoever has an event loop makes them in a thread. What is
made carries labels: the run it belongs to, and the process that made it.

Rule: nothing is removed that carries no run id of ours.
"""

from harness.environment.containers.box import Box
from harness.environment.containers.engine import Engine
from harness.environment.containers.left import OWNER, RUN
from harness.environment.containers.order import BoxState, Order

__all__ = ["OWNER", "RUN", "Box", "BoxState", "Engine", "Order"]
