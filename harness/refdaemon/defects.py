"""
Bugs that are put in on purpose, so that tests can be seen to catch them.

Each is a few lines at its true place in the code, off by default. docs/defects.md says which
failure of a real daemon it repeats, and which test must catch it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["DEFECTS", "Defect"]


@dataclass(frozen=True, kw_only=True)
class Defect:
    """
    One bug.

    Attributes:
        failure: The failure it repeats: "F1" to "F29" of docs/defects.md.
        about: What the daemon does with it.
    """

    failure: str
    about: str


DEFECTS: Final[Mapping[str, Defect]] = {
    "blocking-tool": Defect(
        failure="F1", about="the tool sleep waits on the event loop, and everybody waits with it"
    ),
    "pong-ignored-while-busy": Defect(
        failure="F2", about="a pong that comes while a call runs is not looked at"
    ),
    "impatient-ping": Defect(
        failure="F3", about="a pong has a twentieth of the time that is configured"
    ),
    "silent-work": Defect(failure="F4", about="of a call that takes long nothing is told"),
    "forget-on-disconnect": Defect(
        failure="F5", about="a session, with its keys, is forgotten when its connection is lost"
    ),
    "shared-keys": Defect(
        failure="F6", about="keys and request ids are looked up without regard to the session"
    ),
    "poisoned-key": Defect(
        failure="F7", about="the key of a call whose tool failed stays under way for ever"
    ),
    "uncorrelated-errors": Defect(
        failure="F8", about="what is refused above a rate is answered without its request id"
    ),
    "swapped-replies": Defect(
        failure="F9", about="what is done first answers the request that has waited longest"
    ),
    "content-dedup": Defect(
        failure="F10", about="a message whose bytes were sent before is not sent again"
    ),
    "no-keys": Defect(failure="F11", about="a key that was used is run again"),
    "leaked-slot": Defect(
        failure="F12", about="a call that was cancelled, or lost its caller, keeps its place"
    ),
    "slots-recovered": Defect(
        failure="F13", about="each beat takes one place of each session for lost, and frees it"
    ),
    "serial-connection": Defect(
        failure="F14", about="nothing is read of a connection while a call of it runs"
    ),
    "kept-slot": Defect(failure="F15", about="a connection that was reset keeps its place"),
    "no-keepalive": Defect(failure="F16", about="nobody is asked for a sign of life"),
    "unbounded-reader": Defect(
        failure="F17", about="what a peer does not read is held for it, however much it is"
    ),
    "sessions-kept": Defect(failure="F18", about="no session is ever forgotten"),
    "blocking-connect": Defect(
        failure="F19", about="whether the provider is there is tried on the event loop"
    ),
    "deadline-ignored": Defect(
        failure="F20", about="the provider has an hour, however long the caller waits"
    ),
    "zombie": Defect(failure="F21", about="asked to end, it closes its port and stays"),
    "static-health": Defect(failure="F22", about="the monitor says that all is well, always"),
    "warn-only-bind": Defect(
        failure="F23", about="a port that is taken is worth a warning, and then it runs without"
    ),
    "endless-hello": Defect(failure="F25", about="a hello is waited for without an end"),
    "crash-on-array": Defect(
        failure="F26", about="a frame that is JSON, and no object, is met by nobody's except"
    ),
    "log-flood": Defect(failure="F27", about="each answer that cannot be sent is logged"),
    "stuck-breaker": Defect(
        failure="F28", about="a breaker that is not closed is not even asked for leave"
    ),
    "renamed-op": Defect(failure="F29", about='"call_tool_res" is called "tool_call_res"'),
}
"""By name, as `--defect` takes it."""
