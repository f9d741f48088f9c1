"""A teacher's answers survive a killed stage, are found by their sample, and a stage without samples says why."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.progress_view import ProgressView
from cluster.reasoning_journal import ReasoningJournal, sample_key
from cluster.run_folder import RunFolder
from cluster.stage import StageContext
from cluster.stages.world_model_stage import reasoned, teacher_endpoint, why_nothing
from configs.rollout_config import EndpointConfig
from configs.stage_loading import load_config
from envpool.policy import PolicyError
from tests.verifier.test_reverse_reasoning import sample, url  # noqa: F401
from verifier.reverse_reasoning import QUESTIONS, add_reasoning
from verifier.world_model_data import WorldSample


class Teacher:
    """Thinks `7 + 2 = 9` of every sample and says yes to every question; breaks after `limit` answers."""

    def __init__(self, limit: int = 1_000) -> None:
        self.limit = limit
        self.asked: list[str] = []

    def answer(self, what: str) -> None:
        if len(self.asked) >= self.limit:
            raise PolicyError("no answer in 300 s")
        self.asked.append(what)

    async def think(self, sample: WorldSample, seed: int) -> str:
        self.answer(sample.messages[-1].content)
        return "7 + 2 = 9"

    async def judge(self, sample: WorldSample, thought: str, question: str, seed: int) -> bool | None:
        self.answer(question)
        return True


async def run(folder: Path, teacher: Teacher, samples: list[WorldSample], who: str = "a") -> tuple[Any, Any]:
    with ReasoningJournal(folder, who) as journal:
        return await add_reasoning(samples, journal.reasoner(teacher.think), journal.judge(teacher.judge), 0, concurrency=1)


def cut_short(folder: Path) -> None:
    (written,) = folder.iterdir()
    written.write_bytes(written.read_bytes() + b'{"key":"half')


async def test_only_what_is_missing_is_asked_again(tmp_path: Path) -> None:
    samples = [sample(name) for name in ("a.py", "b.py", "c.py")]
    killed = Teacher(limit=6)
    kept, counts = await run(tmp_path, killed, samples)
    assert (len(kept), counts.endpoint_failed, counts.first_error) == (1, 2, "no answer in 300 s")
    cut_short(tmp_path)
    second = Teacher()
    kept, counts = await run(tmp_path, second, [samples[2], *samples[:2]])  # in another order
    assert (len(kept), counts.endpoint_failed, counts.first_error) == (3, 0, "")
    assert len(second.asked) == 3 * (1 + len(QUESTIONS)) - 6
    third = Teacher()
    assert len((await run(tmp_path, third, samples))[0]) == 3
    assert third.asked == []
    other = Teacher()
    await run(tmp_path, other, samples[:1], who="another teacher")
    assert len(other.asked) == 1 + len(QUESTIONS)


async def test_a_verdict_that_cannot_be_read_is_kept_too(tmp_path: Path) -> None:
    class Mumbling(Teacher):
        async def judge(self, sample: WorldSample, thought: str, question: str, seed: int) -> bool | None:
            self.answer(question)
            return None

    assert (await run(tmp_path, Mumbling(), [sample("a.py")]))[1].judge_unreadable == 1
    again = Mumbling(limit=0)
    assert (await run(tmp_path, again, [sample("a.py")]))[1].judge_unreadable == 1


def test_a_key_depends_on_all_of_a_sample() -> None:
    one = sample("a.py")
    changed = [sample("b.py"), replace(one, truth="8\n"), replace(one, outcome=1), replace(one, instance_id="y")]
    keys = {sample_key(one), *map(sample_key, changed), sample_key(one, "thought", "forward")}
    assert len(keys) == 6
    assert sample_key(replace(one, thought="x")) == sample_key(one), "what is to be found out is no part of the question"


async def test_the_stage_keeps_its_teachers_answers_in_the_run_folder(url: str, tmp_path: Path) -> None:  # noqa: F811
    settings = [
        f"runs_dir={tmp_path}", "world_model.reasoner=endpoint", f"world_model.teacher.base_url={url}",
        "world_model.teacher.model=t", "world_model.teacher.max_attempts=1",
    ]  # fmt: skip
    config = load_config(None, settings)
    nothing: Any = None
    context = StageContext(config, RunFolder.create(config), nothing, nothing, ProgressView())
    samples = (sample("good.py"), sample("thin.py"), sample("broken.py"))
    kept, counts = await reasoned(context, samples)
    assert ([one.thought for one in kept], counts["not_detailed"]) == (["7 + 2 = 9 is printed"], 1)
    assert "HTTP 400" in counts["first_error"]
    gone = replace(config.world_model.teacher, base_url="http://127.0.0.1:1/v1")
    context = replace(context, config=replace(config, world_model=replace(config.world_model, teacher=gone)))
    again, counts = await reasoned(context, samples)
    assert (again, counts["not_detailed"], counts["endpoint_failed"]) == (kept, 1, 1)


def test_a_teacher_has_the_time_that_its_settings_say() -> None:
    teacher = load_config(Path("configs/yaml/swe_world_32b.yaml"), []).world_model.teacher
    assert teacher_endpoint(teacher).deadline_s == 1200 * 6
    assert teacher_endpoint(EndpointConfig(request_timeout_s=10, max_attempts=2)).deadline_s == 20


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (
            {
                "transition_counts": {"num_seen": 9, "surplus": 0},
                "transition_reasoning": {
                    "asked": 4,
                    "endpoint_failed": 3,
                    "leak_phrase": 1,
                    "kept": 0,
                    "first_error": "no answer",
                },
            },
            "none of 4 simulations by world_model.reasoner was kept (3 endpoint_failed, 1 leak_phrase); the teacher's endpoint: "
            "no answer",
        ),
        (
            {"report_counts": {"num_seen": 5, "without_context": 5, "resolved": 0}},
            "no graded trajectory with a context to learn from: {'report_counts': {'num_seen': 5, 'without_context': 5}}; are "
            "verifier.collect_context and collect_executions on, and are there resolved and unresolved ones "
            "(world_model.balanced)?",
        ),
    ],
)
def test_a_stage_without_samples_says_why(counts: dict[str, Any], says: str) -> None:
    assert why_nothing(counts) == says
