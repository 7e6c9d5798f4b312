"""Whom we test: one file a daemon, how to start it and what it can show."""
