"""Choosing what to train on."""
