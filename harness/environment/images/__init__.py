"""
The images that containers of ours are made of: looked up, brought, listed, removed.

Each comes in the first of these ways that works: it is here, made of this very code;
it is pulled; it is made, without any registry. All calls block.
"""

from harness.environment.images.bringing import ImageState, ensure, listed, missing, remove
from harness.environment.images.own import own_image
from harness.environment.images.toxiproxy import VERSION as TOXIPROXY_VERSION
from harness.environment.images.wanted import (
    DAEMON,
    DAEMON_IMAGE,
    IMAGES,
    TOXIPROXY,
    TOXIPROXY_IMAGE,
    Image,
)

__all__ = [
    "DAEMON",
    "DAEMON_IMAGE",
    "IMAGES",
    "TOXIPROXY",
    "TOXIPROXY_IMAGE",
    "TOXIPROXY_VERSION",
    "Image",
    "ImageState",
    "ensure",
    "listed",
    "missing",
    "own_image",
    "remove",
]
