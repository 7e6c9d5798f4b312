"""The WebSocket seam: one interface, two libraries behind it, the wire alike on both."""
