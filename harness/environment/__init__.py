"""Where it happens: a daemon, a proxy before it, and what one run keeps of them."""
