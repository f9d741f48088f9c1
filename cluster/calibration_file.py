"""A world model's calibration, beside its weights."""

from pathlib import Path
from typing import Any

import orjson

from cluster.run_folder import write_atomically
from verifier.calibration import Calibration, Identity, calibration_as_dict

NAME = "calibration.json"


def write_calibration(model: Path, calibration: Calibration) -> None:
    """Keep it in the model's folder."""
    write_atomically(model / NAME, orjson.dumps(calibration_as_dict(calibration), option=orjson.OPT_INDENT_2))


def read_calibration(model: Path) -> dict[str, Any]:
    """Its plain values (`verifier.calibration.calibration_from_dict` reads them); the identity's where none was kept."""
    try:
        values: dict[str, Any] = orjson.loads((model / NAME).read_bytes())
    except FileNotFoundError:
        return calibration_as_dict(Identity())
    return values
