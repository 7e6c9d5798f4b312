"""
The story a newcomer sees first: a daemon, a proxy before it, six steps.

A step is valid only with evidence from both sides of the fault. A fault without
evidence says nothing of the daemon: the story ends there as unknown.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Final

from harness.clock import clock_id, now
from harness.daemons.base import Daemon
from harness.daemons.reference import Reference
from harness.demo.steps import STEPS, Story
from harness.demo.telling import Step, close_line, describe, head, opening
from harness.environment.backends import DOCKER, TOXIPROXY, Choice, engine, stack_of
from harness.environment.base import Environment
from harness.environment.reaper import carriers
from harness.environment.stack import Stack
from harness.environment.threads import in_thread
from harness.errors import (
    EXIT_INVALID,
    EXIT_UNKNOWN,
    EXIT_VALID,
    CallError,
    ConnectFailed,
    EnvironmentFailed,
)
from harness.run.store import RunDirectory

__all__ = ["demo"]

_USUAL: Final = Choice()
_EXIT_CODES: Final = {"valid": EXIT_VALID, "invalid": EXIT_INVALID, "unknown": EXIT_UNKNOWN}


async def demo(
    *, seed: int, runs: Path, daemon: Daemon | None = None, choice: Choice = _USUAL
) -> int:
    """
    Tell the story on stdout and keep its record.

    Args:
        seed: Root seed of all draws.
        runs: Where run directories are kept.
        daemon: Whom to test (default: the reference daemon).
        choice: Where it runs, and behind what.

    Returns:
        The exit code of the verdict: 0 valid, 1 invalid, 2 unknown.

    Raises:
        EnvironmentFailed: If daemon or proxy cannot be brought up.
    """
    daemon = Reference() if daemon is None else daemon
    secrets = [] if daemon.token is None else [daemon.token]
    started = now()
    with RunDirectory.create(runs, "demo") as run, run.history(secrets=secrets) as history:
        backend, proxy = choice.backend, choice.proxy
        print(opening(backend=backend, proxy=proxy, seed=seed, directory=run.path), flush=True)
        history.phase = "set-up"
        stack = stack_of(daemon, choice=choice, directory=run.path, recorder=history, seed=seed)
        environment = Environment(stack, owns=True, seed=seed)
        told: list[Step] = []
        async with environment:
            _refuse_blind(stack)
            # Each step shows by itself whether its fault bit: none is refused for this.
            described = {**stack.describe(), "path": asdict(await stack.look_at_path())}
            run.write_json("environment.json", described, secrets=secrets)
            async with aclosing(_steps(Story(environment, history))) as steps:
                async for step in steps:
                    told.append(step)
                    print(describe(len(told), step), flush=True)
            limits_hit = await stack.limits_hit()
            history.phase = "final"
        left = await _left(stack.run_id, choice)
        verdict = _verdict(told, left, limits_hit)
        results = {
            "verdict": verdict,
            "seed": seed,
            "clock": clock_id(),
            "elapsed_s": round(now() - started, 3),
            "steps": told,
            "not_run": [name for name, _ in STEPS[len(told) :]],
            "left": left,
            "limits_hit": limits_hit,
        }
        run.write_json("results.json", results, secrets=secrets)
    print(
        close_line(
            verdict,
            told,
            total=len(STEPS),
            elapsed_s=now() - started,
            left=left,
            limits_hit=limits_hit,
            again=_again(seed, choice),
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


def _verdict(told: list[Step], left: list[str], limits_hit: list[str]) -> str:
    # A daemon that was refused what it asked for proves nothing of itself; a slow one does.
    if left or any(not line.startswith("cpus") for line in limits_hit):
        return "unknown"
    return told[-1].verdict if told else "unknown"


def _refuse_blind(stack: Stack) -> None:
    """Evidence needs somebody who sees the other side of the fault."""
    if stack.server.witness is None:
        raise EnvironmentFailed(
            "behind a Toxiproxy on the daemon's own network stands no relay of ours, so its"
            " faults are seen from one side only",
            [("next", "take our own proxy: --proxy embedded")],
        )


async def _left(run_id: str, choice: Choice) -> list[str]:
    """What is still there of the run, each as a kind and a name."""
    left = [f"process {pid}" for pid in carriers(run_id)]
    if choice.backend == DOCKER or choice.proxy == TOXIPROXY:
        left += await in_thread(engine().left.remains, run_id)
    return left


def _again(seed: int, choice: Choice) -> str:
    """The options that tell the same story again."""
    words = [f"--seed {seed}"]
    if choice.backend != _USUAL.backend:
        words.append(f"--backend {choice.backend}")
    if choice.proxy != _USUAL.proxy:
        words.append(f"--proxy {choice.proxy}")
    if choice.path is not None:
        words.append(f"--path {choice.path}")
    return " ".join(words)
