"""A session as Markdown: what it says, and what it never does."""

from __future__ import annotations

from harness.report.markdown import Cost, Failure, Session, summary


def test_it_says_what_became_of_the_tests():
    """Counts, path, abilities, cost of environments, reasons, failures."""
    told = summary(
        Session(
            outcomes={"passed": 3, "failed": 1, "skipped": 0},
            paths=["round trip 0.2 ms; arrived as RST"],
            abilities=["process rst"],
            costs=[Cost("proxy", 0.004, 0.001), Cost("proxy", 0.006, 0.003)],
            skipped=["no rst here", "no rst here"],
            failures=[Failure("test_a.py::test_b", [("harness", "fault  latency")])],
        )
    )

    assert told.startswith("## harness: 3 passed, 1 failed\n")
    assert "- path: round trip 0.2 ms; arrived as RST\n" in told
    assert "| proxy | 2 | 5 ms | 6 ms | 2 ms |\n" in told
    assert "| 2 | no rst here |\n" in told
    assert "<summary>test_a.py::test_b</summary>\n<p>harness</p>\n<pre>fault  latency</pre>" in told


def test_what_markdown_or_html_would_eat_is_escaped():
    """Names and logs are anybody's text."""
    told = summary(
        Session(
            outcomes={},
            skipped=["a | b\nc <script>"],
            failures=[Failure("t[<x>]", [("log", "</pre><script>alert(1)</script>")])],
        )
    )

    assert "<script>" not in told
    assert "| 1 | a &#124; b c &lt;script&gt; |" in told
    assert told.count("<pre>") == told.count("</pre>") == 1


def test_it_is_never_longer_than_it_may_be():
    """What does not fit is left out whole, and that is said."""
    failures = [Failure(f"test_{n}", [("log", "ä" * 1000)]) for n in range(20)]

    told = summary(Session(outcomes={"failed": 20}, failures=failures), limit_bytes=10_000)

    assert len(told.encode()) <= 10_000
    assert "more failures are left out" in told
    assert told.count("<details>") == told.count("</details>") > 0
