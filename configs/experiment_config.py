"""Several trainings on the same rollouts that differ in a few settings: which, with how many seeds, and on what run."""

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from configs.run_config import RunConfig
from configs.stage_loading import ConfigError, checked_config, one_line


@dataclass(frozen=True)
class ArmConfig:
    name: str = ""
    """What tables and curves call it."""
    set: tuple[str, ...] = ()
    """Overrides `key=value` of the run's settings; only curate.* and sft.* may differ between arms."""
    share: float = 1.0
    """Where it stands on the curve's x axis (sft.data_share is set to it); arms of one `curve` are joined."""
    curve: str = ""
    """The curve it belongs to; empty: the arm's own name."""


@dataclass(frozen=True)
class ExperimentConfig:
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each arm is trained and evaluated once with each; tasks and rollouts are those of the run's own seed."""
    arms: list[ArmConfig] = field(default_factory=list)
    """What is compared."""
    run: RunConfig = field(default_factory=RunConfig)
    """Everything the arms share."""


def load_experiment(path: Path, overrides: list[str]) -> ExperimentConfig:
    """The experiment in a YAML file; overrides `key=value` are of the whole file (`run.sft.num_steps=10`). Raises ConfigError."""
    try:
        read = OmegaConf.load(path)
        if not isinstance(read, DictConfig):
            raise ConfigError(f"{path} must hold keys and values")
        merged = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), read, OmegaConf.from_dotlist(overrides))
        experiment = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from error
    except (OSError, YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    assert isinstance(experiment, ExperimentConfig)
    names = [arm.name for arm in experiment.arms]
    if not names or not experiment.seeds or len(set(names)) < len(names) or "" in names:
        raise ConfigError(f"{path}: an experiment needs seeds and arms with names that differ, it has {names}")
    for arm in experiment.arms:
        arm_config(experiment, arm, experiment.seeds[0])
    return experiment


def arm_config(experiment: ExperimentConfig, arm: ArmConfig, seed: int) -> RunConfig:
    """The run of one arm and seed. Raises ConfigError for overrides that cannot differ between arms."""
    for override in arm.set:
        if not override.startswith(("curate.", "sft.")):
            raise ConfigError(f"arm {arm.name!r} sets {override.split('=')[0]}: only curate.* and sft.* may differ between arms")
    changes = [*arm.set, f"sft.data_share={arm.share}", f"seed={seed}"]
    try:
        merged = OmegaConf.merge(OmegaConf.structured(experiment.run), OmegaConf.from_dotlist(changes))
        return checked_config(OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(f"arm {arm.name!r}: {one_line(error)}") from error
