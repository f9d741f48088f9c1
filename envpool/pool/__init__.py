"""Sandboxes lent out: bounded, fair, warm, prepared to a task's start state, and measured."""
