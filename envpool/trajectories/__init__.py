"""Recorded episodes on disk, ours and other tools'."""
