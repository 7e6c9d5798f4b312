"""What can go wrong: one file a fault. A new file here is a new fault everywhere."""
