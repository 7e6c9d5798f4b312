"""The names of an engine's images, while others make and remove some."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import docker.errors

from harness.environment.containers.images import Images


def test_an_image_that_was_removed_after_it_was_listed_is_none():
    """
    The others are told, the newest first.
    """
    images = {
        "old": SimpleNamespace(attrs={"Created": "2026-01-01T00:00:00Z"}, tags=["mine:old"]),
        "new": SimpleNamespace(attrs={"Created": "2026-02-01T00:00:00Z"}, tags=["mine:new"]),
    }

    def get(name: str) -> Any:
        if name not in images:
            raise docker.errors.ImageNotFound("no such image")
        return images[name]

    client = SimpleNamespace(
        api=SimpleNamespace(images=lambda **_: [{"Id": each} for each in ("old", "gone", "new")]),
        images=SimpleNamespace(get=get),
    )
    endpoint: Any = None

    assert Images(client, endpoint).tags("mine:") == ["mine:new", "mine:old"]
