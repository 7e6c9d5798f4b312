"""The workflows, held against what the tests take: what a machine has must be tested on it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.outcomes import EXPECTED, leaves

WORKFLOWS = sorted((Path(__file__).resolve().parents[2] / ".github/workflows").glob("*.yml"))


def jobs(path: Path) -> dict[str, str]:
    """Each job of a workflow, as it is written."""
    text = path.read_text().partition("\njobs:\n")[2]
    names = re.findall(r"^  ([a-z0-9-]+):$", text, re.MULTILINE)
    return dict(zip(names, re.split(r"^  [a-z0-9-]+:$", text, flags=re.MULTILINE)[1:], strict=True))


def given(job: str) -> set[str]:
    return {word for line in re.findall(r"HARNESS_TEST_GIVEN: (.*)", job) for word in line.split()}


JOBS = [
    pytest.param(job, id=f"{path.stem}-{name}")
    for path in WORKFLOWS
    for name, job in jobs(path).items()
]


@pytest.mark.parametrize("job", JOBS)
def test_what_is_given_are_words_of_the_committed_expectation(job: str):
    """A misspelt one would give nothing."""
    assert given(job) <= {leave.want for leave in leaves(EXPECTED.read_text())}


@pytest.mark.parametrize("job", JOBS)
def test_tests_run_where_they_are_told_what_is_there(job: str):
    """Else a tier that skips itself is green; and what brings images has containers."""
    if not re.search(r"make test-(integration|e2e)", job):
        return
    assert given(job) >= {"linux", "curl"}
    if "make images" in job:
        assert "containers" in given(job)
        assert "HARNESS_TEST_CONTAINERS: required" in job
    if "toxiproxy" in given(job):
        assert "HARNESS_TEST_TOXIPROXY: " in job


@pytest.mark.parametrize("job", JOBS)
def test_columns_in_a_summary_stand_in_a_fence(job: str):
    """It is Markdown: else they would run together."""
    for line in job.splitlines():
        if "GITHUB_STEP_SUMMARY" in line:
            assert line.count("```") == 2
