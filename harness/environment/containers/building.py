"""How an image is built: its context packed, the builder followed, broken off from outside."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import urllib3.exceptions
from docker.types import CancellableStream
from docker.utils import tar

from harness.clock import now
from harness.environment.containers.told import hang_up
from harness.environment.temporary import temporary_place
from harness.errors import EnvironmentFailed

__all__ = ["BUILD_WITHIN_S", "begin_build", "follow_build", "packed"]

BUILD_WITHIN_S: Final = 600
"""The bound of one build, in seconds."""

_LOG_LINES: Final = 12
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_DONE: Final = "Successfully built"


@contextlib.contextmanager
def packed(folder: str, dockerfile: str) -> Iterator[IO[bytes]]:
    """The context, in a file without a name: docker-py's own stays if we are killed."""
    with tempfile.TemporaryFile(dir=temporary_place()) as context:
        tar(folder, _ignored(folder), (dockerfile, None), context)
        yield context


def _ignored(folder: str) -> list[str]:
    """The patterns of its `.dockerignore`."""
    try:
        lines = Path(folder, ".dockerignore").read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def begin_build(
    api: Any, context: IO[bytes], *, tag: str, dockerfile: str, given: Mapping[str, str]
) -> CancellableStream:
    """Begin a build. Returns what the builder says; hung up on, it ends."""
    answers: list[Any] = []
    # Its stream of what is built is the only one that docker-py lets nobody hang up on.
    api.hooks["response"].append(lambda answer, **_: answers.append(answer))
    said = api.build(
        fileobj=context,
        custom_context=True,
        tag=tag,
        dockerfile=dockerfile,
        buildargs=dict(given),
        rm=True,
        forcerm=True,
        decode=True,
    )
    return CancellableStream(said, answers[-1])


def follow_build(said: CancellableStream, what: str, *, by_hand: str) -> list[str]:
    """
    Wait for the end of a build.

    Args:
        said: What the builder says.
        what: Begins the words of an error.
        by_hand: What to do after one.

    Returns:
        Its log, line by line.

    Raises:
        EnvironmentFailed: If it fails, is broken off, or takes too long.
    """
    began, heard, why = now(), list[Mapping[str, Any]](), "it was broken off"
    try:
        for event in said:
            heard.append(event)
            if now() - began > BUILD_WITHIN_S:
                why = f"not done within {BUILD_WITHIN_S} s"
                break
            # The status of the answer was sent before.
            if "error" in event:
                why = _COLOURS.sub("", str(event["error"]))
                break
            if "ID" in (event.get("aux") or {}) or _DONE in event.get("stream", ""):
                why = ""
    except urllib3.exceptions.HTTPError as error:
        # How silence in the middle of an answer shows.
        why = f"the engine fell silent: {error}"
    finally:
        hang_up(said)()
    lines = _lines(heard)
    if why:
        tail = _COLOURS.sub("", "\n".join(lines[-_LOG_LINES:]))
        raise EnvironmentFailed(f"{what}: {why}", [("log tail", tail), ("next", by_hand)])
    return lines


def _lines(heard: Sequence[Mapping[str, Any]]) -> list[str]:
    text = "".join(str(part.get("stream", part.get("error", ""))) for part in heard)
    return [line for line in text.splitlines() if line.strip()]
