"""Vectors that peers' own functions computed; they lie beside the repository and tests skip without them."""

import json
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[3] / "shared" / "oracles" / "policy_gradient.json"


def golden_cases() -> list[dict[str, Any]]:
    """The cases; skips the calling test when the file is not there."""
    if not GOLDEN.is_file():
        pytest.skip("../shared/oracles/policy_gradient.json is not there")
    cases: list[dict[str, Any]] = json.loads(GOLDEN.read_text())["cases"]
    return cases
