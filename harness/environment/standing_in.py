"""A stand-in for a daemon in a container: one on its network, of our own image."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Final

from harness.address import Address
from harness.environment.clean_up import put_away
from harness.environment.containers import Box, Order
from harness.environment.household import Household
from harness.environment.images.own import own_image
from harness.environment.networks import Network
from harness.environment.processes import reserve_port
from harness.environment.threads import in_thread

__all__ = ["in_container"]

_PORT: Final = 8079


@asynccontextmanager
async def in_container(network: Network, household: Household) -> AsyncIterator[Address | str]:
    """
    Stand on a network, published where daemons on it are.

    Args:
        network: Which; it is open.
        household: Whose it is.
    """
    image = own_image()
    if await in_thread(network.engine.images.id, image) is None:
        yield f"there is no image {image} here"
        return
    with ExitStack() as kept:
        own = Address(network.take(), _PORT)
        kept.callback(network.give_back, own.host)
        ports, where = {}, own
        if network.path != "bridge":
            reservation = reserve_port()
            kept.callback(reservation.close)
            where = reservation.address
            ports[_PORT] = (where.host, where.port)
        order = Order(
            name=f"{network.name}-stand-in-{own.host.rpartition('.')[2]}",
            image=image,
            run_id=household.run_id,
            command=["python3", "-P", "-m", "harness.environment.stand_in", str(_PORT)],
            network=network.name,
            address=own.host,
            ports=ports,
        )
        # Whoever is cancelled meanwhile has it made all the same.
        made: list[Box] = []
        error: BaseException | None = None
        try:
            await in_thread(lambda: made.append(network.engine.run(order)))
            yield where
        except BaseException as failure:
            error = failure
            raise
        finally:
            await put_away(error, *(in_thread(box.remove) for box in made))
