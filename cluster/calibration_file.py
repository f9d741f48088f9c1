"""A world model's calibration, beside its weights: it holds for the model it was fitted for alone."""

from pathlib import Path
from typing import Any

import orjson

from cluster.run_folder import write_atomically
from configs.world_model_config import WorldModelConfig
from verifier.calibration import Calibration, Identity, calibration_as_dict

NAME = "calibration.json"
OWN = "hf/world-model"
"""The name of the run's own model."""


def scorer_name(config: WorldModelConfig) -> str:
    """Who is asked, and what it is not shown: the run's own model, or the one behind world_model.endpoint."""
    endpoint = config.endpoint
    who = f"{endpoint.model} at {endpoint.base_url}" if endpoint.base_url else OWN
    return who if config.show_observed else f"{who}, without observations"


def write_calibration(model: Path, calibration: Calibration, scorer: str = OWN) -> None:
    """Keep what was fitted for `scorer` in the model's folder."""
    values = {**calibration_as_dict(calibration), "scorer": scorer}
    write_atomically(model / NAME, orjson.dumps(values, option=orjson.OPT_INDENT_2))


def read_calibration(model: Path, scorer: str = OWN) -> dict[str, Any]:
    """Its plain values (`verifier.calibration.calibration_from_dict` reads them); the identity's where none was kept for this
    `scorer`."""
    try:
        values: dict[str, Any] = orjson.loads((model / NAME).read_bytes())
    except FileNotFoundError:
        return calibration_as_dict(Identity())
    return values if values.pop("scorer", OWN) == scorer else calibration_as_dict(Identity())
