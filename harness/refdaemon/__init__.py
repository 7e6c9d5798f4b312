"""
The reference daemon: a WebSocket tool server that a harness can hold to its word.

An island: nothing imports it. It is started as a program,
`python -m harness.refdaemon`, and talks through its port, its effect log and its
exit code.
"""
