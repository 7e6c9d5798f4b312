"""The wire, spoken: one connection at a time, every call on record before it leaves."""
