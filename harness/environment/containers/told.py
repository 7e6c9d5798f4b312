"""What Docker's libraries raise, in our words; and what is done alike everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import docker.errors
import requests.exceptions

from harness.errors import EnvironmentFailed, TransientFailure

__all__ = ["TIMEOUT_S", "hang_up", "no_engine", "remove", "told"]

TIMEOUT_S: Final = 30
"""The bound of one request, in seconds."""

_GONE: Final = "the container engine does not answer any more"
# What an engine says that is busy with others, or with itself.
_PASSING: Final = (
    "deadline exceeded",
    "timeout",
    "timed out",
    "temporarily unavailable",
    "resource busy",
    "try again",
    "xtables lock",
    "already in progress",
)
_START: Final = "start it (for instance `sudo systemctl start docker`), or take the backend local"


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """What the engine's libraries raise, in our words."""
    try:
        yield
    except docker.errors.ImageNotFound as error:
        raise _no_image(what, error) from None
    except docker.errors.APIError as error:
        said = str(error.explanation or error).strip()
        passes = error.is_server_error() and any(words in said.lower() for words in _PASSING)
        kind = TransientFailure if passes else EnvironmentFailed
        raise kind(f"{what}: {said}", _remedy(said)) from None
    except requests.exceptions.Timeout:
        raise TransientFailure(
            f"{what}: the container engine did not answer within {TIMEOUT_S} s",
            [("next", "see what the engine does: `docker info`, and its own log")],
        ) from None
    except (requests.exceptions.RequestException, docker.errors.DockerException, OSError) as error:
        raise EnvironmentFailed(
            f"{what}: {_GONE}", [("found", str(error)), ("next", _START)]
        ) from None


def _no_image(what: str, error: docker.errors.ImageNotFound) -> EnvironmentFailed:
    said = str(error.explanation or error).strip()
    return EnvironmentFailed(f"{what}: {said}", [("next", "`harness images` makes or pulls it")])


def _remedy(said: str) -> list[tuple[str, str]]:
    """What to do about what the engine says."""
    known = {
        "no space left": "free some disk: `docker system df` shows what the engine keeps",
        "port is already allocated": "give another port, or let the system choose one",
        "address already in use": "give another port, or let the system choose one",
        "non-overlapping": "`harness clean` removes what dead runs left; see `docker network ls`",
        "permission denied": "see that you may use the engine's socket",
    }
    return [("next", todo) for words, todo in known.items() if words in said.lower()]


def no_engine(where: object, error: Exception) -> EnvironmentFailed:
    said = str(error)
    found, todo = said, _START
    if "Permission denied" in said:
        found, todo = "permission denied", "join the group that owns it (docker), or use sudo"
    elif "No such file" in said or "FileNotFound" in said:
        found = "there is no such socket"
    elif "refused" in said:
        found = "nobody listens there"
    return EnvironmentFailed(f"no container engine answers at {where}: {found}", [("next", todo)])


def hang_up(stream: Any) -> Callable[[], None]:
    """What ends a stream, from whatever thread, and lets go of its connection."""

    def act() -> None:
        # Twice is no mistake, and it may have ended by itself.
        with contextlib.suppress(Exception):
            stream.close()
        with contextlib.suppress(Exception):
            stream._response.close()  # noqa: SLF001 - else its socket is left to the collector

    return act


def remove(container: Any) -> None:
    with contextlib.suppress(docker.errors.NotFound):
        try:
            container.remove(force=True, v=True)
        except docker.errors.APIError as error:
            # Somebody else is removing it, the reaper for instance.
            if "in progress" not in str(error.explanation):
                raise
