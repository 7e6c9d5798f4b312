"""HTTP/1.1 on h11, for the programs of ours that speak it: one server, one client."""
