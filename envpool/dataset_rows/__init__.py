"""Rows of published datasets, read without trusting them, and compiled once into tasks."""
