"""The name of our own image, made of this very code: checkouts do not share one."""

from __future__ import annotations

from functools import cache

from harness.environment.images.wanted import DAEMON

__all__ = ["own_image"]


@cache
def own_image() -> str:
    """For instance ws-harness:0.1.0-3f2a…"""
    return DAEMON.tag
