"""Which keys a session has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.resilience.idempotency import Kept, Keys

if TYPE_CHECKING:
    from harness.refdaemon.state import State

__all__ = ["keys_of"]


def keys_of(state: State) -> Keys:
    """The keys of a new session: its own, but for a defect."""
    if "shared-keys" in state.defects and state.sessions:
        return next(iter(state.sessions.values())).calls.keys
    if "no-keys" in state.defects:
        return _Unkept(state.idempotency)
    return state.idempotency.keys()


class _Unkept(Keys):
    """Keys of which none is known again."""

    __slots__ = ()

    def find(self, name: str) -> Kept | None:
        return None
