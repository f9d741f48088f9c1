"""The generated page is the code's, and every setting says what it means."""

from pathlib import Path

from cluster.config_reference import field_docstrings, reference, settings
from configs.grpo_config import GRPOConfig

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "run: python -m cluster.config_reference > docs/configuration.md"


def test_every_setting_says_what_it_means() -> None:
    silent = [row.key for _, rows in settings() for row in rows if not row.meaning]
    assert silent == []


def test_a_docstring_is_read() -> None:
    assert field_docstrings(GRPOConfig)["group_size"] == "Episodes per task."


def test_keys_are_those_of_overrides() -> None:
    keys = [row.key for _, rows in settings() for row in rows]
    assert {"name", "grpo.optimizer.learning_rate", "rollout.episode.lsp.memory_mib"} <= set(keys)
    assert len(keys) == len(set(keys))
