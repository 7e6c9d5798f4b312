"""Coping: breaker, backoff, metrics, configuration, connections. No socket and no clock here."""
