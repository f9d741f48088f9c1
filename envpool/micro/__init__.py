"""Micro tasks and the scripted teachers that play them."""
