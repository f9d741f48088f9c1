"""Where vectors lie that peers' own functions computed, beside the repository; tests skip without them."""

from pathlib import Path

GOLDEN = Path(__file__).parents[3] / "shared" / "oracles" / "policy_gradient.json"
