"""Reading a run's configuration: defaults from the dataclasses, then a YAML file, then `key=value` overrides."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from configs.engine_check import engine_problems
from configs.episode_check import episode_problems
from configs.objective_check import objective_problems
from configs.rollout_config import EndpointConfig
from configs.run_config import RunConfig
from configs.simulation_check import simulation_problems


class ConfigError(ValueError):
    """A mistake in a configuration, in one line that names the key."""


def load_config(path: Path | None, overrides: list[str], over: Path | None = None) -> RunConfig:
    """The resolved configuration: defaults, the file `path`, the file `over` (what it names replaces what `path` says of the same
    key; lists as a whole), then the overrides. Raises ConfigError for unknown keys (with a suggestion), wrong types and broken
    budgets.

    >>> load_config(None, ["grpo.group_size=4"]).grpo.group_size
    4
    """
    try:
        layers = [OmegaConf.structured(RunConfig)]
        for file in (path, over):
            if file is None:
                continue
            path = file  # the one that is named if it cannot be read
            layers.append(OmegaConf.load(file))
            if not isinstance(layers[-1], DictConfig):
                raise ConfigError(f"{file} must hold keys and values, not a list or a single value")
        for override in overrides:
            if "=" not in override:
                raise ConfigError(f"override {override!r} is not of the form key=value")
        layers.append(OmegaConf.from_dotlist(overrides))
        config = OmegaConf.to_object(OmegaConf.merge(*layers))
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from error
    except (OSError, YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    return checked_config(config)


def checked_config(config: object) -> RunConfig:
    """The configuration, when its parts fit together. Raises ConfigError."""
    assert isinstance(config, RunConfig)
    check_deadlines(config)
    check_endpoints(config)
    checks = (episode_problems, objective_problems, simulation_problems, engine_problems)
    if problems := [problem for check in checks for problem in check(config)]:
        raise ConfigError("; ".join(problems))
    return config


def one_line(error: OmegaConfBaseException) -> str:
    """The mistake, its key, and for an unknown key the names that exist there (nearest first)."""
    text = str(error).splitlines()[0]
    full_key = str(getattr(error, "full_key", None) or "")
    if isinstance(error, ConfigKeyError) and "Did you mean" not in text and is_dataclass(error.object_type):
        known = [field.name for field in fields(error.object_type)]
        wanted = full_key.rpartition(".")[2]
        known.sort(key=lambda name: -SequenceMatcher(None, name, wanted).ratio())
        text += f"; known there: {', '.join(known[:5])}{' ...' if len(known) > 5 else ''}"
    return f"{text} (at {full_key})" if full_key else text


def check_deadlines(config: RunConfig) -> None:
    """Every wait fits into the one around it: tool and request < episode, episode + grading < lease and step."""
    episode, engine, grpo = config.rollout.episode, config.engine, config.grpo
    if not episode.tool_timeout_s < episode.episode_timeout_s:
        raise ConfigError(
            f"rollout.episode.tool_timeout_s={episode.tool_timeout_s:g} must be below "
            f"rollout.episode.episode_timeout_s={episode.episode_timeout_s:g}"
        )
    if not engine.request_timeout_s < episode.episode_timeout_s:
        raise ConfigError(
            f"engine.request_timeout_s={engine.request_timeout_s:g} must be below "
            f"rollout.episode.episode_timeout_s={episode.episode_timeout_s:g}, or a request that hangs would outlast its "
            "episode and take its sandbox's lease with it: lower the first or raise the second"
        )
    needed_s = episode.episode_timeout_s + config.verifier.grading_timeout_s
    if not needed_s < config.rollout.lease_s:
        raise ConfigError(f"rollout.lease_s={config.rollout.lease_s:g} must exceed episode and grading together ({needed_s:g} s)")
    if not needed_s < grpo.step_timeout_s:
        raise ConfigError(
            f"grpo.step_timeout_s={grpo.step_timeout_s:g} must exceed rollout.episode.episode_timeout_s="
            f"{episode.episode_timeout_s:g} and verifier.grading_timeout_s={config.verifier.grading_timeout_s:g} together "
            f"({needed_s:g} s), or steps cut their groups before the episodes are graded: raise it"
        )


def check_endpoints(config: RunConfig) -> None:
    """Keys stand in the environment and nowhere else: a run's configuration is written to its folder."""
    for where, endpoint in endpoints_in(config):
        if not re.fullmatch(r"(?:[A-Za-z_][A-Za-z0-9_]*)?", endpoint.api_key_env):
            raise ConfigError(f"{where}.api_key_env must be the name of an environment variable that holds the key, not the key")
        if "@" in endpoint.base_url.partition("//")[2].partition("/")[0]:
            raise ConfigError(f"{where}.base_url must hold no user or password: put the key into an environment variable")


def endpoints_in(node: Any, path: str = "") -> Iterator[tuple[str, EndpointConfig]]:
    """Every endpoint of a configuration, with its key."""
    if isinstance(node, EndpointConfig):
        yield path, node
    elif is_dataclass(node):
        for field in fields(node):
            yield from endpoints_in(getattr(node, field.name), f"{path}.{field.name}".removeprefix("."))


def config_as_yaml(config: RunConfig) -> str:
    """The resolved configuration as YAML that `load_config` reads back to an equal one."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))
