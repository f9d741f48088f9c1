"""A rollout worker tries patches in the state that agents start from."""

from actors.rollout_worker import RolloutWorker
from configs.stage_loading import load_config
from envpool.preparation import Preparation
from envpool.sandbox_parts.image_cache import FolderImages
from tests.verifier.small_repo import FILES, FIXED, GOLD, TASK
from trainers.model_paths import resolve_model_path
from verifier.patch_signals import PatchSignals


async def test_the_set_up_runs_and_hidden_tests_are_gone(images: FolderImages) -> None:
    images.add("calc", FILES | {"calc.py": FIXED, "test_hidden.py": "raise SystemExit(1)\n"})
    worker = RolloutWorker()
    await worker.start(load_config(None, []), str(resolve_model_path("tiny_base")), str(images.root), "", "trying-tests")
    try:
        smith = Preparation("sed -i 's/a + b/a - b/' calc.py", ("test_hidden.py",))
        assert await worker.try_patches(TASK.problem, smith, (GOLD,)) == [PatchSignals(existing_tests=1.0)]
    finally:
        await worker.close()
