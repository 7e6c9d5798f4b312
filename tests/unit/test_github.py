"""Annotations of GitHub Actions, character by character."""

from __future__ import annotations

from harness.report.github import annotation


def test_an_annotation_is_one_line():
    """
    Line ends of the message are escaped, so that no second command begins in the middle.
    """
    told = annotation(file="tests/a.py", line=3, title="t", message="one\r\ntwo\n::error::three")

    assert told == "::error file=tests/a.py,line=3,title=t::one%0D%0Atwo%0A::error::three"


def test_a_percent_sign_is_escaped_first():
    """
    What looks like an escape in the message comes out as it was written.
    """
    assert annotation(file="a", line=1, title="50%", message="%0A").endswith("title=50%25::%250A")


def test_properties_hide_what_separates_them():
    """
    A test's id has colons, and its parameters may have commas; the message keeps both.
    """
    told = annotation(file="a,b.py", line=1, title="a.py::test[x,y]", message="a: b, c")

    assert told == "::error file=a%2Cb.py,line=1,title=a.py%3A%3Atest[x%2Cy]::a: b, c"
