"""Where a model's files are. No torch: configurations are checked with this before anything heavy is imported."""

from pathlib import Path

TINY_BASE = "tiny_base"


class ModelPathError(FileNotFoundError):
    """A model folder that is missing or not one."""


def resolve_model_path(path: str) -> Path:
    """The Hugging Face folder that `path` names; `tiny_base` is the checkpoint shipped beside this module.

    Raises ModelPathError when there is no folder with a config.json.
    """
    folder = Path(__file__).parent / TINY_BASE if path == TINY_BASE else Path(path).expanduser()
    if not (folder / "config.json").is_file():
        what = "the shipped checkpoint tiny_base is missing; reinstall" if path == TINY_BASE else f"no model folder at {path!r}"
        raise ModelPathError(f"{what} (expected {folder / 'config.json'})")
    return folder.absolute()
