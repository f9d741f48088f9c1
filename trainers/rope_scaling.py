"""YaRN (arXiv 2309.00071): a model's context stretched by a factor, written into its config so that learner and engine agree."""

import json
import os
from pathlib import Path
from typing import Any


def stretched_config(config: dict[str, Any], factor: float) -> dict[str, Any]:
    """The model's config.json with its context multiplied by `factor`. Raises ValueError for a config it cannot stretch.

    The context the model was trained with stays noted, so stretching again starts from it and never multiplies twice.

    >>> stretched = stretched_config({"max_position_embeddings": 32768, "rope_theta": 1e6}, 2.5)
    >>> stretched["max_position_embeddings"], stretched["rope_parameters"]["factor"]
    (81920, 2.5)
    """
    if factor < 1:
        raise ValueError(f"model.rope_factor={factor:g} must be at least 1")
    old = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = old.get("rope_type") or old.get("type") or "default"
    if kind not in ("default", "yarn"):
        raise ValueError(f"model.rope_factor: the model already scales its positions by {kind!r}")
    theta = old.get("rope_theta") or config.get("rope_theta")
    context = old.get("original_max_position_embeddings") or config.get("max_position_embeddings")
    if not theta or not context:
        raise ValueError("model.rope_factor: config.json names no rope_theta or no max_position_embeddings")
    plain = {name: value for name, value in config.items() if name not in ("rope_scaling", "rope_theta")}
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": theta}
    if factor > 1:
        rope = {
            "rope_type": "yarn",
            "rope_theta": theta,
            "factor": float(factor),
            "original_max_position_embeddings": int(context),
        }
    return plain | {"max_position_embeddings": round(context * factor), "rope_parameters": rope}


def stretched_model(folder: Path, target: Path, factor: float) -> Path:
    """A model folder at `target` with the stretched config and links to all other files of `folder`; returns `target`.

    Learner, engine and export then read the same config.json. Made anew when it exists.
    """
    config = stretched_config(json.loads((folder / "config.json").read_text()), factor)
    target.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        link = target / file.name
        if file.name == "config.json" or file.is_dir():
            continue
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.abspath(file))
    (target / "config.json").write_text(json.dumps(config, indent=2))
    return target
