"""`make bench`: every figure, one program after the other. Ends with 1 if a must is missed."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = (
    "environment",
    "containers",
    "plugin",
    "daemon",
    "daemon_memory",
    "daemon_fairness",
    "system",
    "connections",
    "test_circuit_breaker_overhead",
    "test_hash_performance",
    "test_cleanup_performance",
    "test_metrics_overhead",
)


def main() -> int:
    """Run them all, each in a process of its own; returns the worst exit code."""
    codes = []
    for name in BENCHMARKS:
        print(f"tests.benchmarks.{name}", flush=True)
        command = [sys.executable, "-m", f"tests.benchmarks.{name}", *sys.argv[1:]]
        codes.append(subprocess.run(command, check=False).returncode)
        print(flush=True)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
