"""`.ci/run`, with stand-ins for all that it calls: what it puts away at its end, and what not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / ".ci/run"
BOUND_S = 60

ENGINE = """#!/bin/sh
echo "$1" >>"$ASKED"
[ "$1" != status ] || exit "$NONE_ANSWERS"
"""


def stand_in(path: Path, text: str = "#!/bin/sh\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("none_answers", "asked"),
    [(0, ["status", "start"]), (1, ["status", "start", "stop"])],
    ids=["one-answers", "none-answers"],
)
def test_it_stops_the_engine_that_it_started_and_no_other(
    none_answers: int, asked: list[str], tmp_path: Path
):
    """Nor is what it fetched for itself left behind."""
    script, temporary = tmp_path / ".ci/run", tmp_path / "tmp"
    script.parent.mkdir()
    shutil.copy(RUN, script)
    temporary.mkdir()
    stand_in(tmp_path / "docker/engine.sh", ENGINE)
    for name in ("make", "docker"):
        stand_in(tmp_path / "bin" / name)
    stand_in(tmp_path / "bin/go", '#!/bin/sh\ntouch "$GOBIN/server"\n')
    stand_in(tmp_path / "bin/python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    told = tmp_path / "asked"

    done = subprocess.run(
        [shutil.which("bash") or "bash", str(script)],
        env={
            **os.environ,
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "TMPDIR": str(temporary),
            "ASKED": str(told),
            "NONE_ANSWERS": str(none_answers),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BOUND_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "built Toxiproxy 2.12.0" in done.stdout
    assert told.read_text().split() == asked
    assert list(temporary.iterdir()) == []
