"""The client side of language servers: one session per sandbox, on a mirror of its files."""
