"""docs/agent_episode.md says what the code does: its table of stop reasons is made from the enum and the reward tables."""

from pathlib import Path

from envpool.trajectory import StopReason
from verifier.rewards import REWARDS, RewardRule

DOC = Path(__file__).parents[2] / "docs" / "agent_episode.md"
TABLES = ("swe_master", "deepswe", "swe_world")


def worth(rule: RewardRule) -> str:
    """One cell: what an episode that ended so is worth."""
    if not rule.train:
        return "masked"
    if not rule.graded:
        return f"{rule.value:g}"
    return "outcome" if rule.factor == 1.0 else f"{rule.factor} x outcome"


def stop_reason_table() -> str:
    rows = [
        f"| `{reason.value}` | {reason.sentence} | {' | '.join(worth(REWARDS[table][reason]) for table in TABLES)} |"
        for reason in StopReason
    ]
    return "\n".join([f"| stop reason | | {' | '.join(TABLES)} |", "|---|---|---|---|---|", *rows])


def test_the_table_of_stop_reasons_is_the_codes() -> None:
    assert stop_reason_table() in DOC.read_text(), f"put this table into {DOC.name}:\n{stop_reason_table()}"
