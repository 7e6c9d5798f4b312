"""The wire, tampered with: a Toxiproxy-compatible proxy and the client of its API."""
