"""How the command line says that something is wrong."""

import sys
from typing import NoReturn

import typer


def fail(message: str, code: int = 2) -> NoReturn:
    """One line on stderr, then exit."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(code)
