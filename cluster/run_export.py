"""Taking the results of a run elsewhere."""

import shutil
from pathlib import Path

from cluster.run_folder import RunFolder, RunFolderError


def export_run(folder: RunFolder, to: Path) -> list[str]:
    """Copy the newest policy (Hugging Face format), predictions and report to `to`; returns a line per thing written."""
    policy = next((folder.hf(stage) for stage in ("grpo", "sft") if (folder.hf(stage) / "config.json").is_file()), None)
    if policy is None:
        raise RunFolderError(f"{folder.root} holds no trained policy yet: run sft first")
    if to.exists() and any(to.iterdir()):
        raise RunFolderError(f"{to} exists and is not empty")
    shutil.copytree(policy, to / "model", dirs_exist_ok=True)
    written = [f"{to / 'model'}  ({policy.name} policy; AutoModelForCausalLM or `swe-master serve {to / 'model'}` load it)"]
    for name in ("predictions.jsonl", "report.html", "config.yaml", "versions.json"):
        if (folder.root / name).is_file():
            shutil.copy2(folder.root / name, to / name)
            written.append(str(to / name))
    return written
