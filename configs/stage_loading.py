"""Reading a run's configuration: defaults from the dataclasses, then a YAML file, then `key=value` overrides."""

from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from configs.run_config import RunConfig


class ConfigError(ValueError):
    """A mistake in a configuration, in one line that names the key."""


def load_config(path: Path | None, overrides: list[str]) -> RunConfig:
    """The resolved configuration. Raises ConfigError for unknown keys (with a suggestion), wrong types and broken budgets.

    >>> load_config(None, ["grpo.group_size=4"]).grpo.group_size
    4
    """
    try:
        layers = [OmegaConf.structured(RunConfig)]
        if path is not None:
            layers.append(OmegaConf.load(path))
        for override in overrides:
            if "=" not in override:
                raise ConfigError(f"override {override!r} is not of the form key=value")
        layers.append(OmegaConf.from_dotlist(overrides))
        config = OmegaConf.to_object(OmegaConf.merge(*layers))
    except OmegaConfBaseException as error:
        first_line = str(error).splitlines()[0]
        where = f" (at {error.full_key})" if getattr(error, "full_key", None) else ""
        raise ConfigError(f"{first_line}{where}") from error
    except (OSError, YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    assert isinstance(config, RunConfig)
    check_deadlines(config)
    return config


def check_deadlines(config: RunConfig) -> None:
    """Every wait fits into the one around it: tool < episode, episode + grading < lease."""
    episode = config.rollout.episode
    if not episode.tool_timeout_s < episode.episode_timeout_s:
        raise ConfigError(
            f"rollout.episode.tool_timeout_s={episode.tool_timeout_s:g} must be below "
            f"rollout.episode.episode_timeout_s={episode.episode_timeout_s:g}"
        )
    needed_s = episode.episode_timeout_s + config.verifier.grading_timeout_s
    if not needed_s < config.rollout.lease_s:
        raise ConfigError(
            f"rollout.lease_s={config.rollout.lease_s:g} must exceed episode and grading together ({needed_s:g} s)"
        )


def config_as_yaml(config: RunConfig) -> str:
    """The resolved configuration as YAML that `load_config` reads back to an equal one."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))
