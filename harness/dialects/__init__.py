"""The message languages, without sockets and clocks. Daemon and client share them."""
