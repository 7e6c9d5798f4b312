"""harness_needs: skipped with the probed reason, or failed where strictness was asked for."""

from __future__ import annotations

import re

import pytest

from tests.integration.inner import Outcome, carried_out
from tests.integration.plugin_runs import rows, sections

_SUITE = {
    "test_a.py": """
        import pytest

        @pytest.mark.harness_needs("rst", "health", "effects", "events", "seed")
        async def test_met(harness_environment):
            assert harness_environment.abilities["rst"] is None

        @pytest.mark.harness_needs("docker")
        async def test_not_there(harness_environment):
            raise AssertionError("carried out")

        @pytest.mark.harness_needs("process")
        @pytest.mark.harness_isolation("proxy")
        async def test_shared(harness_environment):
            raise AssertionError("carried out")

        @pytest.mark.harness_needs("process")
        async def test_has_its_own(harness_environment, harness_isolation):
            assert harness_isolation == "daemon"

        @pytest.mark.harness_needs("process")
        @pytest.mark.harness_isolation("daemon")
        async def test_own(harness_environment):
            pass

        @pytest.mark.harness_needs("rst")
        def test_met_without_environment():
            pass

        @pytest.mark.harness_needs("frames")
        def test_not_there_without_environment():
            raise AssertionError("carried out")

        @pytest.mark.harness_needs("netem")
        def test_unknown():
            raise AssertionError("carried out")

        @pytest.mark.harness_needs("docker")
        class TestOfClass:
            @pytest.mark.harness_needs("frames")
            def test_all_of_them(self):
                raise AssertionError("carried out")
        """,
    "test_b.py": """
        import pytest

        pytestmark = pytest.mark.harness_needs("docker")

        def test_of_module():
            raise AssertionError("carried out")
        """,
}

_MET = ("test_met", "test_own", "test_has_its_own", "test_met_without_environment")
_UNMET = {
    "test_not_there": "docker: the daemon is a process of this machine",
    "test_shared": "process: other tests use its daemon too",
    "test_not_there_without_environment": "frames: no fault of this version looks into frames",
    "test_of_module": "docker: the daemon is a process of this machine",
    "test_all_of_them": "frames: no fault of this version looks into frames; docker: the daemon",
}


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The suite as it is."""
    return carried_out(tmp_path_factory.mktemp("lenient"), _SUITE, "-rs")


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The same with --harness-strict."""
    return carried_out(tmp_path_factory.mktemp("strict"), _SUITE, "--harness-strict")


@pytest.mark.parametrize("name", _MET)
def test_what_is_there_is_carried_out(lenient: Outcome, strict: Outcome, name: str):
    """
    Probed in the test's own environment, or, where it has none, in the one it would share.
    """
    assert lenient.ends()[name] == ["passed"]
    assert strict.ends()[name] == ["passed"]


@pytest.mark.parametrize("name", _UNMET)
def test_what_is_not_there_skips_with_the_reason(lenient: Outcome, name: str):
    """
    The skip stands at the test, not at a line of ours.
    """
    assert lenient.ends()[name] == ["skipped"]
    [told] = [why for where, why in _skips(lenient) if f"def {name}(" in where]
    assert told.startswith(f"harness_needs: {_UNMET[name]}")


def _skips(run: Outcome) -> list[tuple[str, str]]:
    """For each skip the few lines of source where it stands, and its reason."""
    found = re.findall(r"^SKIPPED \[1\] (\S+):(\d+): (.*)$", run.text, re.MULTILINE)
    sources = {file: (run.folder / file).read_text().splitlines() for file, _, _ in found}
    # From the first of its markers on.
    return [("\n".join(sources[f][int(n) - 1 : int(n) + 2]), why) for f, n, why in found]


@pytest.mark.parametrize("name", _UNMET)
def test_strictness_fails_it_with_the_reason(strict: Outcome, name: str):
    """
    At set-up: the test itself is not carried out.
    """
    assert strict.ends()[name] == ["error"]
    complaint = strict.complaint(name)
    assert f"harness_needs is not met: {_UNMET[name]}" in complaint
    assert "(--harness-strict)" in complaint
    assert "carried out" not in complaint


def test_the_command_that_repeats_it_is_as_strict(strict: Outcome):
    """
    Else it would skip what is to be seen.
    """
    report = strict.text.partition("ERROR at setup of test_not_there ")[2].partition("\n___")[0]

    assert sections(report)
    assert "--harness-strict" in rows(report)["again"][0].split()


def test_an_unknown_ability_fails_its_test_alone(lenient: Outcome):
    """
    A misspelt need would else skip a test for ever.
    """
    assert lenient.ends()["test_unknown"] == ["error"]
    assert "'netem' is no ability; expected one or more of rst, " in lenient.complaint(
        "test_unknown"
    )
