"""`python -m harness.resilience.config`: the keys as Markdown, printed or written into a page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.resilience.config.page import keys_page, with_keys


def main() -> None:
    """Print the keys, or put them into a page."""
    parser = argparse.ArgumentParser(prog="python -m harness.resilience.config")
    parser.add_argument(
        "--write",
        metavar="FILE",
        type=Path,
        help="put them between the two markers of this page (default: print them)",
    )
    file = parser.parse_args().write
    if file is None:
        sys.stdout.write(keys_page())
    else:
        file.write_text(with_keys(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
