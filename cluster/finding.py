"""What one check of `swe-master doctor` found."""

from collections.abc import Callable
from dataclasses import dataclass

from configs.run_config import RunConfig

GIB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """`needed` tells a blocker from an option; `advice` is what to do when not `ok`."""

    name: str
    ok: bool
    needed: bool
    found: str
    advice: str


Check = Callable[[RunConfig], Finding]
"""Looks at the machine as a run of this configuration would need it. Never raises for what is merely missing."""
