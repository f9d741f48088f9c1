"""Taking the results of a run elsewhere."""

import shutil
from pathlib import Path

from cluster.evaluation_stamp import stamp_name
from cluster.patch_choices import CHOICES, chosen_among
from cluster.predictions_file import CHOSEN_PREDICTIONS, PREDICTIONS
from cluster.run_folder import RunFolder, RunFolderError
from cluster.run_policies import newest_evaluation
from configs.stage_loading import load_config


def export_run(folder: RunFolder, to: Path) -> list[str]:
    """Copy the newest policy (Hugging Face format), predictions and report to `to`; returns a line per thing written. Patches
    chosen by test-time scaling go along if they are from the newest evaluation. Raises RunFolderError, ConfigError, OSError."""
    policy = next((folder.hf(stage) for stage in ("grpo", "sft") if (folder.hf(stage) / "config.json").is_file()), None)
    if policy is None:
        raise RunFolderError(f"{folder.root} holds no trained policy yet: run sft or grpo first")
    if to.exists() and any(to.iterdir()):
        raise RunFolderError(f"{to} exists and is not empty")
    shutil.copytree(policy, to / "model", dirs_exist_ok=True)
    written = [f"{to / 'model'}  ({policy.name} policy; AutoModelForCausalLM or `swe-master serve {to / 'model'}` load it)"]
    notes = {PREDICTIONS: "  (the first episode of each task)", CHOSEN_PREDICTIONS: "  (chosen by test-time scaling)"}
    chosen = [CHOSEN_PREDICTIONS, CHOICES]
    config = load_config(folder.root / "config.yaml", [])
    source, newest = chosen_among(folder.root), newest_evaluation(config, folder.stage_records())
    if source is not None and (newest is None or source != (newest, stamp_name(folder.root / "trajectories" / newest))):
        written.append(f"{CHOSEN_PREDICTIONS} stays behind: its candidates are not those of the newest evaluation; run tts again")
        chosen = []
    for name in (PREDICTIONS, *chosen, "report.html", "config.yaml", "versions.json"):
        if (folder.root / name).is_file():
            shutil.copy2(folder.root / name, to / name)
            written.append(f"{to / name}{notes.get(name, '')}")
    return written
