"""
A stand-in for the AI provider that a daemon calls: a program of its own.

`python -m harness.refdaemon.provider` serves HTTP and keeps a log of what it really worked on,
so that a test knows whether a call reached it, and how often. What it is asked and what it says
stands in `service`.
"""
