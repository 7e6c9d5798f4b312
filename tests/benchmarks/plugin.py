"""
What the pytest plugin costs: loading it, and twenty tests with an environment each.

    python -m tests.benchmarks.plugin [--rounds N]

Each figure is the difference of two pytest runs, one with and one without the plugin's part,
taken in turns; medians (min..max). Loading is told in CPU time, of the least of five runs each: it
waits for nothing, and what else the machine does meanwhile is ten times as long. The musts:
loading within 50 ms; 20 tests with fresh proxies on a shared daemon within 1.5 s beyond pytest
itself; 20 with fresh environments within 8 s. Ends with 1 if a must is missed.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from harness import program
from harness.clock import now

TESTS: Final = 20
LOAD_MUST_MS: Final = 50.0
SHARED_MUST_MS: Final = 1500.0
FRESH_MUST_MS: Final = 8000.0
_NONE: Final[Mapping[str, str]] = {}

_CALL: Final = """
import pytest

@pytest.mark.parametrize("n", range({tests}))
async def test_it({fixture}, n):
    {body}
"""
_WITH: Final = """async with harness_environment.client() as client:
        await client.call("echo", {"text": str(n)})"""


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _pytest_ms(
    clock: Callable[[], float], more: Mapping[str, str], folder: Path, *options: str
) -> float:
    started = clock()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    variables = {**os.environ, "HARNESS_SEED": "7", **more}
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    took = (clock() - started) * 1000
    # 5: no test was there, which is what the figure of loading is taken with.
    if done.returncode not in (0, 5):
        said = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise SystemExit(f"{' '.join(command)} failed:\n{said}")
    return took


def _project(folder: Path, *, fixture: str, body: str) -> Path:
    folder.mkdir()
    (folder / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    (folder / "test_it.py").write_text(
        _CALL.format(tests=TESTS, fixture=fixture, body=body) if fixture else ""
    )
    return folder


def _pairs(
    rounds: int,
    plain: Sequence[str],
    ours: Sequence[str],
    *,
    clock: Callable[[], float] = now,
    variables: Mapping[str, str] = _NONE,
) -> list[tuple[float, float]]:
    """Both in turns, so that what else the machine does meets both."""
    return [
        (
            _pytest_ms(clock, variables, Path(plain[0]), *plain[1:]),
            _pytest_ms(clock, variables, Path(ours[0]), *ours[1:]),
        )
        for _ in range(rounds)
    ]


def _differences(rounds: int, plain: Sequence[str], ours: Sequence[str]) -> list[float]:
    return [took - without for without, took in _pairs(rounds, plain, ours)]


def _loading(rounds: int, empty: str) -> float:
    """
    The least that was needed with it, beyond the least without it: what else the machine does
    only adds, and much more than the plugin. Alone with pytest, for other plugins take more, too.
    """
    pairs = _pairs(
        rounds,
        (empty,),
        (empty, "-p", "harness.pytest_plugin"),
        clock=_cpu_s,
        variables={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    return min(took for _, took in pairs) - min(without for without, _ in pairs)


def _tell(what: str, took: Sequence[float], must: float) -> bool:
    median = statistics.median(took)
    spread = f"({min(took):.0f}..{max(took):.0f})"
    met = median <= must
    print(f"{what:56} {median:7.0f} ms {spread:14} must {must:g}: {'met' if met else 'MISSED'}")
    return met


def _measure(rounds: int, root: Path) -> bool:
    empty = str(_project(root / "empty", fixture="", body=""))
    plain = str(_project(root / "plain", fixture="request", body="pass"))
    ours = str(_project(root / "ours", fixture="harness_environment", body=_WITH))
    print(f"pytest plugin, medians of {rounds} (min..max), beyond the same pytest run without it")
    load = [_loading(5, empty) for _ in range(rounds)]
    shared = _differences(rounds, (plain,), (ours,))
    fresh = _differences(rounds, (plain,), (ours, "--harness-isolation", "environment"))
    met = [
        _tell("loading the plugin, CPU time", load, LOAD_MUST_MS),
        _tell(f"{TESTS} tests, fresh proxies on a shared daemon", shared, SHARED_MUST_MS),
        _tell(f"{TESTS} tests, fresh environments", fresh, FRESH_MUST_MS),
    ]
    return all(met)


def main() -> int:
    """Run the benchmark; returns its exit code."""
    parser = program.Parser(prog="python -m tests.benchmarks.plugin", description=__doc__)
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=program.positive(int),
        default=3,
        help="how many pairs of runs; five times as many for loading (default: 3)",
    )
    with tempfile.TemporaryDirectory() as folder:
        return 0 if _measure(parser.parse_args().rounds, Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
