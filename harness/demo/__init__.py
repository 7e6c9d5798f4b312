"""
The story a newcomer sees first: a daemon, a proxy before it, six steps.

A step is valid only with evidence from both sides of the fault. A fault without
evidence says nothing of the daemon: the story ends there as unknown.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final

from harness.clock import clock_id, now
from harness.daemons.base import Daemon
from harness.daemons.reference import Reference
from harness.demo.steps import STEPS, Story
from harness.demo.telling import Step, close_line, describe, head, opening
from harness.environment.local import LocalEnvironment
from harness.environment.reaper import carriers
from harness.errors import (
    EXIT_INVALID,
    EXIT_UNKNOWN,
    EXIT_VALID,
    CallError,
    ConnectFailed,
)
from harness.run.store import RunDirectory

__all__ = ["demo"]

_EXIT_CODES: Final = {"valid": EXIT_VALID, "invalid": EXIT_INVALID, "unknown": EXIT_UNKNOWN}


async def demo(*, seed: int, runs: Path, daemon: Daemon | None = None) -> int:
    """
    Tell the story on stdout and keep its record.

    Args:
        seed: Root seed of all draws.
        runs: Where run directories are kept.
        daemon: Whom to test (default: the reference daemon).

    Returns:
        The exit code of the verdict: 0 valid, 1 invalid, 2 unknown.

    Raises:
        EnvironmentFailed: If daemon or proxy cannot be brought up.
    """
    daemon = Reference() if daemon is None else daemon
    secrets = [] if daemon.token is None else [daemon.token]
    started = now()
    with RunDirectory.create(runs, "demo") as run, run.history(secrets=secrets) as history:
        print(opening(seed=seed, directory=run.path), flush=True)
        history.phase = "set-up"
        environment = LocalEnvironment(daemon, directory=run.path, recorder=history, seed=seed)
        told: list[Step] = []
        async with environment:
            described = environment.stack.describe()
            run.write_json("environment.json", described, secrets=secrets)
            async with aclosing(_steps(Story(environment, history))) as steps:
                async for step in steps:
                    told.append(step)
                    print(describe(len(told), step), flush=True)
            history.phase = "final"
        left = carriers(environment.stack.run_id)
        verdict = _verdict(told, left)
        results = {
            "verdict": verdict,
            "seed": seed,
            "clock": clock_id(),
            "elapsed_s": round(now() - started, 3),
            "steps": told,
            "not_run": [name for name, _ in STEPS[len(told) :]],
            "processes_left": left,
        }
        run.write_json("results.json", results, secrets=secrets)
    print(
        close_line(
            verdict,
            told,
            total=len(STEPS),
            elapsed_s=now() - started,
            left=left,
            seed=seed,
            runs=runs,
            directory=run.path,
        ),
        flush=True,
    )
    return _EXIT_CODES[verdict]


async def _steps(story: Story) -> AsyncGenerator[Step, None]:
    """Each step as it ends; the first that is not valid is the last."""
    for name, step in STEPS:
        story.begin(name)
        try:
            told = await step(story)
        except (ConnectFailed, CallError) as error:
            # Where no fault was in place the daemon must answer; nothing was learnt of faults.
            told = Step(
                name=name,
                expected="an answer, since nothing is in its way",
                measured=head(error),
                sides=(),
                verdict="unknown",
                why="the daemon did not answer where no fault was in place",
            )
        yield told
        if told.verdict != "valid":
            return


def _verdict(told: list[Step], left: list[int]) -> str:
    if left:
        return "unknown"
    return told[-1].verdict if told else "unknown"
