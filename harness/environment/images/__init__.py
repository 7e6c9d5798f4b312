"""
The images that containers need: ours and the real Toxiproxy's; present, pulled, or made.

All of it blocks. What is made is made of what Debian, PyPI and the Go module proxy have: no
image registry is needed.
"""

from harness.environment.images.own import own_image
from harness.environment.images.wanted import ensure, missing, state

__all__ = ["ensure", "missing", "own_image", "state"]
