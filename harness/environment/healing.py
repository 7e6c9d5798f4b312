"""Everything taken off again, whatever put it on, and read back that it is."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from harness.environment.clean_up import put_away
from harness.environment.hops import Hop
from harness.errors import HealFailed, ProxyError
from harness.proxy.control import Control

__all__ = ["heal"]


async def heal(hops: Sequence[Hop], control: Control) -> None:
    """
    Put in order what stands on these hops. Each step is taken, whatever becomes of the others.

    Args:
        hops: Which, from the client on.
        control: The API of the server that has their proxies.

    Raises:
        HealFailed: If something is still there.
    """
    steps: list[Coroutine[Any, Any, object]] = []
    # Whoever is called first is in order before whoever may call it.
    for hop in reversed(hops):
        site = hop.site
        hop.tightened.clear()
        steps += [site.unlimit(), site.connect(), site.resume()]
        # What ended by itself stays as it is: that is no fault of ours.
        if site.trouble is None:
            steps.append(site.revive())
        steps.append(_clear(control, hop.proxy))
    await put_away(None, *steps)


async def _clear(control: Control, proxy: str) -> None:
    try:
        state = await control.proxy(proxy)
    except ProxyError as error:
        # A proxy that was removed harms nobody.
        if error.status == 404:
            return
        raise
    if state.enabled and not state.toxics:
        return
    for toxic in state.toxics:
        await control.remove_toxic(proxy, toxic.name)
    state = await control.update(proxy, enabled=True)
    if state.toxics or not state.enabled:
        left = [toxic.name for toxic in state.toxics] or ["the proxy is disabled"]
        raise HealFailed(f"proxy {proxy} is not healed: {', '.join(left)}")
