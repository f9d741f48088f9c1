from pathlib import Path

import pytest

from configs.run_config import RunConfig
from configs.stage_loading import ConfigError, config_as_yaml, load_config


def test_defaults_then_file_then_overrides(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("grpo: {group_size: 2, clip_high: 0.3}\nseed: 4\n")
    config = load_config(path, ["grpo.group_size=5"])
    assert (config.grpo.group_size, config.grpo.clip_high, config.seed, config.grpo.clip_low) == (5, 0.3, 4, 0.2)


def test_a_second_file_replaces_what_it_names(tmp_path: Path) -> None:
    run, given = tmp_path / "config.yaml", tmp_path / "more.yaml"
    run.write_text("grpo: {group_size: 2, clip_high: 0.3}\nseed: 4\nrollout: {policies: [careful, hasty]}\n")
    given.write_text("grpo: {group_size: 6, clip_low: 0.1}\nrollout: {policies: [engine]}\n")
    config = load_config(run, ["grpo.clip_low=0.15"], given)
    assert (config.grpo.group_size, config.grpo.clip_high, config.grpo.clip_low, config.seed) == (6, 0.3, 0.15, 4)
    assert tuple(config.rollout.policies) == ("engine",)
    given.write_text("grpo: {grop_size: 6}")
    with pytest.raises(ConfigError, match="'group_size'"):
        load_config(run, [], given)
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere\.yaml"):
        load_config(run, [], tmp_path / "nowhere.yaml")


def test_the_container_free_configuration_goes_over_the_run_of_its_world_model(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "configs" / "yaml"
    run = tmp_path / "config.yaml"
    run.write_text(config_as_yaml(load_config(folder / "swe_world_32b.yaml", ["tasks.prepared=[a.parquet]"])))
    config = load_config(run, [], folder / "swe_world_32b_grpo.yaml")
    assert (config.sandbox.backend, config.sandbox.real_backend, config.verifier.grader) == ("simulated", "docker", "hybrid")
    assert (config.grpo.num_steps, config.world_model.num_engines) == (47, 4)
    alone = load_config(folder / "swe_world_32b_grpo.yaml", [])
    assert (config.grpo, config.rollout, config.verifier, config.world_model) == (
        alone.grpo, alone.rollout, alone.verifier, alone.world_model
    )  # fmt: skip
    assert config.tasks != alone.tasks, "what the file does not name stays the run's"


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(config_as_yaml(RunConfig(seed=3)))
    assert load_config(path, []) == RunConfig(seed=3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["grpo.grop_size=4"], "'grop_size'.*'group_size'.*grpo.grop_size"),
        (["seed=many"], "'many'.*Integer.*seed"),
        (["seed"], "not of the form key=value"),
        (["rollout.episode.tool_timeout_s=500"], "tool_timeout_s=500 must be below"),
        (["rollout.lease_s=10"], "lease_s=10 must exceed"),
        (
            ["engine.request_timeout_s=120"],
            r"engine.request_timeout_s=120 must be below rollout.episode.episode_timeout_s=120, .*: lower the first or raise",
        ),
        (
            ["rollout.episode.episode_timeout_s=5400", "rollout.lease_s=9000"],
            r"grpo.step_timeout_s=600 must exceed rollout.episode.episode_timeout_s=5400 and verifier.grading_timeout_s=60 "
            r"together \(5460 s\), .*: raise it",
        ),
    ],
)
def test_mistakes_are_one_line_that_names_the_key(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(None, overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- 1\n", "\x00"])
def test_broken_files_are_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, [])
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml", [])


def test_shipped_configurations_load() -> None:
    paths = sorted((Path(__file__).parents[2] / "configs" / "yaml").glob("*.yaml"))
    for path in paths:
        load_config(path, [])


@pytest.mark.parametrize("name", ["swe_master_32b", "swe_master_4b", "swe_world_32b", "swe_world_32b_grpo"])
def test_large_runs_have_the_published_sft_recipe_and_prompt(name: str) -> None:
    config = load_config(Path(__file__).parents[2] / "configs" / "yaml" / f"{name}.yaml", [])
    rate = config.sft.optimizer
    assert (config.sft.epochs, config.sft.overlong, config.sft.batch_size, config.sft.max_tokens) == (5, "cut", 256, 81920)
    assert (rate.learning_rate, rate.min_learning_rate, rate.warmup_ratio, rate.schedule) == (5e-5, 5e-6, 0.1, "cosine")
    assert tuple(rate.betas) == (0.9, 0.95)
    assert config.rollout.episode.prompt == "full"
    assert config.sandbox.pull_images
    assert config.grpo.initial_policy == ("base" if name.startswith("swe_master") else "sft")
    assert config.rollout.episode.garbled.stop == (config.verifier.reward == "swe_world"), "its -0.5 is for an episode that ends"
