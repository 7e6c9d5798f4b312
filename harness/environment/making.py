"""A proxy made on a server, and removed again: where making it fails, none is left."""

from __future__ import annotations

from harness.address import Address
from harness.environment.clean_up import put_away
from harness.errors import EnvironmentFailed, ProxyError
from harness.proxy.control import Control, ProxyState

__all__ = ["make_proxy", "remove_proxy", "taken"]

_TAKEN = 409
_CANNOT_LISTEN = 500


async def make_proxy(
    control: Control,
    name: str,
    *,
    upstream: Address,
    listen: Address,
    seed: int | None = None,
    tap: bool = False,
) -> ProxyState:
    """
    Make a proxy.

    Raises:
        EnvironmentFailed: If the server has one of that name, or cannot listen there.
        ProxyError: If it refuses for another reason, or does not answer.
    """
    try:
        return await control.create(
            name, upstream=str(upstream), listen=str(listen), seed=seed, tap=tap
        )
    except BaseException as error:
        status = error.status if isinstance(error, ProxyError) else None
        if status == _TAKEN:
            raise taken(control, name) from None
        # A server whose answer came too late, or was not waited for, has made it.
        await put_away(error, remove_proxy(control, name))
        if status == _CANNOT_LISTEN and isinstance(error, ProxyError):
            why = error.text.rpartition(": ")[2]
            raise EnvironmentFailed(
                f"the proxy cannot listen on {listen}: {why}",
                [
                    ("server", control.url),
                    ("next", "give another port; where none is given the system chooses one"),
                ],
            ) from None
        raise


def taken(control: Control, name: str) -> EnvironmentFailed:
    """Why there can be no proxy of that name."""
    return EnvironmentFailed(
        f'the proxy server at {control.url} has a proxy "{name}" already',
        [("next", "give another name, or remove that one if it is yours")],
    )


async def remove_proxy(control: Control, name: str) -> None:
    """Remove a proxy; nothing, where it is gone already."""
    try:
        await control.delete(name)
    except ProxyError as error:
        if error.status != 404:
            raise
