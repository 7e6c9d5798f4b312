"""harness_needs: skipped with the probed reason, or failed where strictness was asked for."""

from __future__ import annotations

import re

import pytest

from harness.environment.backends import DOCKER, LOCAL
from tests.integration.inner import Outcome, carried_out
from tests.integration.plugin_runs import rows, sections

_SUITE = {
    "test_a.py": """
        import pytest

        @pytest.mark.harness_needs("rst", "health", "effects")
        async def test_met(harness_environment):
            assert harness_environment.abilities["rst"] is None

        @pytest.mark.harness_needs("events", "seed")
        async def test_ours(harness_environment, tell):
            tell(carried_out=True)

        @pytest.mark.harness_needs("docker")
        async def test_boxed(harness_environment, tell):
            tell(carried_out=True)

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

        def test_of_module(tell):
            tell(carried_out=True)
        """,
}

_NO_FRAMES = "frames: no fault of this version looks into frames"
_NO_BOX = "docker: the daemon is a process of this machine"
_UNMET = {
    LOCAL: {
        "test_boxed": _NO_BOX,
        "test_of_module": _NO_BOX,
        "test_all_of_them": f"{_NO_FRAMES}; {_NO_BOX}",
    },
    # Before it stands a real Toxiproxy.
    DOCKER: {
        "test_ours": "events: the real Toxiproxy tells nothing of its connections; seed: the real",
        "test_all_of_them": _NO_FRAMES,
    },
}
_UNMET_ANYWHERE = {
    "test_shared": "process: other tests use its daemon too",
    "test_not_there_without_environment": _NO_FRAMES,
}
_MET = ("test_met", "test_own", "test_has_its_own", "test_met_without_environment")
_EITHER_WAY = ("test_ours", "test_boxed", "test_of_module", "test_all_of_them")


@pytest.fixture(scope="module")
def lenient(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The suite as it is."""
    return carried_out(tmp_path_factory.mktemp("lenient"), _SUITE, "-rs")


@pytest.fixture(scope="module")
def strict(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The same with --harness-strict."""
    return carried_out(tmp_path_factory.mktemp("strict"), _SUITE, "--harness-strict")


@pytest.fixture
def unmet(on_backend: str) -> dict[str, str]:
    """The tests whose needs are not met there, each with the reason."""
    return {**_UNMET[on_backend], **_UNMET_ANYWHERE}


@pytest.mark.parametrize("name", [*_MET, *_EITHER_WAY])
def test_what_is_there_is_carried_out(
    lenient: Outcome, strict: Outcome, unmet: dict[str, str], name: str
):
    """
    Probed in the test's own environment, or, where it has none, in the one it would share. What
    one backend lacks the other may have.
    """
    ends = ["skipped"] if name in unmet else ["passed"]
    assert lenient.ends()[name] == ends
    if name not in unmet:
        assert strict.ends()[name] == ["passed"]
    for run in (lenient, strict):
        assert (name in run.told("carried_out")) == (name in _EITHER_WAY and name not in unmet)


def test_what_is_not_there_skips_with_the_reason(lenient: Outcome, unmet: dict[str, str]):
    """
    The skip stands at the test, not at a line of ours.
    """
    for name, why in unmet.items():
        assert lenient.ends()[name] == ["skipped"]
        [told] = [why for where, why in _skips(lenient) if f"def {name}(" in where]
        assert told.startswith(f"harness_needs: {why}")


def _skips(run: Outcome) -> list[tuple[str, str]]:
    """For each skip the few lines of source where it stands, and its reason."""
    found = re.findall(r"^SKIPPED \[1\] (\S+):(\d+): (.*)$", run.text, re.MULTILINE)
    sources = {file: (run.folder / file).read_text().splitlines() for file, _, _ in found}
    # From the first of its markers on.
    return [("\n".join(sources[f][int(n) - 1 : int(n) + 2]), why) for f, n, why in found]


def test_strictness_fails_it_with_the_reason(strict: Outcome, unmet: dict[str, str]):
    """
    At set-up: the test itself is not carried out.
    """
    for name, why in unmet.items():
        assert strict.ends()[name] == ["error"]
        complaint = strict.complaint(name)
        assert f"harness_needs is not met: {why}" in complaint
        assert "(--harness-strict)" in complaint
        assert "carried out" not in complaint


def test_the_command_that_repeats_it_is_as_strict(strict: Outcome):
    """
    Else it would skip what is to be seen.
    """
    report = strict.text.partition("ERROR at setup of test_shared ")[2].partition("\n___")[0]

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
