"""
The container engine, spoken to. Nothing else here imports Docker's packages.

All calls block and are bounded; whoever has an event loop makes them in a thread. What is
made carries labels: the run it belongs to, and the process that made it.

Rule: nothing is removed that carries no run id of ours.

Raises:
    EnvironmentFailed: If Docker's packages, an extra, are not installed.
"""

from harness.errors import EnvironmentFailed

try:
    from harness.environment.containers.box import Box
    from harness.environment.containers.engine import Engine
    from harness.environment.containers.left import OWNER, RUN
    from harness.environment.containers.order import BoxState, Order, Said
except ModuleNotFoundError as error:
    # In whatever way somebody comes to containers, this is where it shows.
    lacking = str(error.name).partition(".")[0]
    raise EnvironmentFailed(
        f"containers need a package that is not installed: {lacking}",
        [("next", "pip install 'ws-harness[docker]'; in a checkout: make images")],
    ) from None

__all__ = ["OWNER", "RUN", "Box", "BoxState", "Engine", "Order", "Said"]
