"""Sequential scaling in the evaluation: every limit of turns is really played, the run's own is not played twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.group_request import GroupRequest
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder
from cluster.stage import StageContext
from cluster.stages.eval_stage import turn_scaling
from configs.run_config import RunConfig
from configs.tts_config import TTSConfig
from tests.cluster.test_stage_results import scored
from tests.verifier.small_repo import TASK
from verifier.reward import Group


class LimitedFleet:
    """Solves the task in every episode that may take at least four turns."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def model_folder(self, name: str) -> Path:
        return Path(name)

    async def play(self, request: GroupRequest) -> Group:
        name, count, max_turns = request.task.instance_id, request.group_size, request.max_turns
        assert request.real, "an evaluation is never simulated"
        self.asked.append((count, max_turns))
        return Group(name, tuple(scored(name, index, max_turns >= 4) for index in range(count)), ())


async def test_every_budget_is_played_with_its_limit(tmp_path: Path) -> None:
    config = RunConfig(runs_dir=str(tmp_path), tts=TTSConfig(turn_budgets=(2, 4, 8), turn_budget_samples=3, num_bootstrap=50))
    config = replace(config, rollout=replace(config.rollout, episode=replace(config.rollout.episode, max_turns=8)))
    fleet: Any = LimitedFleet()
    sinks: Any = None
    context = StageContext(config, RunFolder.create(config), sinks, fleet, ProgressView())
    whole = [Group(TASK.instance_id, (scored(TASK.instance_id, 0, True), scored(TASK.instance_id, 1, False)), ())]
    table = await turn_scaling(context, "sft", [TASK], whole)
    assert sorted(fleet.asked) == [(3, 2), (3, 4)]
    assert {budget: row[0] for budget, row in table.items()} == {"2": 0.0, "4": 1.0, "8": 0.5}
    assert await turn_scaling(context, "sft", [TASK], whole) == table
    assert len(fleet.asked) == 2, "stored groups are not played again"


async def test_without_budgets_nothing_is_played(tmp_path: Path) -> None:
    nothing: Any = None
    context = StageContext(RunConfig(), RunFolder.create(RunConfig(runs_dir=str(tmp_path))), nothing, nothing, ProgressView())
    assert await turn_scaling(context, "sft", [TASK], []) == {}
