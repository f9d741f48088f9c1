"""A stage in a run folder with a configuration of its own, what it still lacks there, and what `--plan` says of it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.run_folder import RunFolder
from cluster.stage_running import stages_of
from cluster.stages import STAGES
from configs.stage_loading import load_config
from envpool.task_sets.task_store import write_tasks
from tests.cluster.test_real_evaluation import named

SIMULATED = "sandbox: {backend: simulated}\nverifier: {grader: hybrid}\nworld_model: {roles: [reward, transition]}\n"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(load_config(None, [f"runs_dir={tmp_path}", "seed=5"]))


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "simulated.yaml"
    path.write_text(SIMULATED)
    return path


def swe_master(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.output


def test_a_file_replaces_settings_of_the_run_and_words_replace_both(run: RunFolder, given: Path) -> None:
    _, alone = swe_master("grpo", "--resume", run.root, "--print-config")
    assert "seed: 5" in alone
    assert "backend: process" in alone
    code, both = swe_master("grpo", "--resume", run.root, given, "seed=6", "--print-config")
    assert (code, "seed: 6" in both, "backend: simulated" in both) == (0, True, True)
    assert "backend: process" in (run.root / "config.yaml").read_text(), "the run keeps its own settings"
    code, said = swe_master("grpo", "--resume", run.root, given, given)
    assert (code != 0, "one configuration file at most" in said) == (True, True)


def test_grpo_in_simulation_needs_a_trained_world_model() -> None:
    simulated, served = ["sandbox.backend=simulated", "verifier.grader=hybrid", "world_model.roles=[reward,transition]"], []
    served = [*simulated, "world_model.endpoint.base_url=http://localhost:1/v1"]
    grpo, evaluation = STAGES["grpo"], STAGES["eval-sft"]
    assert grpo.missing(load_config(None, []), {"sft": {}}) == ""
    assert grpo.missing(load_config(None, simulated), {}) == "sft"
    assert grpo.missing(load_config(None, simulated), {"sft": {}}) == "world-model"
    assert grpo.missing(load_config(None, simulated), {"sft": {}, "world-model": {}}) == ""
    assert grpo.missing(load_config(None, served), {"sft": {}}) == ""
    assert evaluation.missing(load_config(None, simulated), {"sft": {}}) == "", "an evaluation asks no world model"


def test_stages_that_ask_an_endpoints_world_model_name_the_defaults_of_a_tiny_one(run: RunFolder) -> None:
    served = ["world_model.endpoint.base_url=http://localhost:1/v1", "world_model.max_model_len=8192"]
    simulated = ["sandbox.backend=simulated", "verifier.grader=hybrid", "world_model.roles=[reward,transition]"]
    said = {name: len(stage.advice(load_config(None, served))) for name, stage in STAGES.items()}
    assert {name for name, count in said.items() if count} == {"world-model", "tts"}
    said = {name: len(stage.advice(load_config(None, [*served, *simulated]))) for name, stage in STAGES.items()}
    assert {name for name, count in said.items() if count} == {"world-model", "tts", "rollout", "grpo"}
    code, plan = swe_master("tts", "--resume", run.root, *served, "--plan")
    assert (code, "a general one needs world_model.form=full" in " ".join(plan.split())) == (0, True)


def test_grpo_from_the_base_model_needs_tasks_only() -> None:
    base = ["grpo.initial_policy=base"]
    simulated = [*base, "sandbox.backend=simulated", "verifier.grader=hybrid", "world_model.roles=[reward,transition]"]
    grpo = STAGES["grpo"]
    assert grpo.missing(load_config(None, base), {}) == "tasks"
    assert grpo.missing(load_config(None, base), {"tasks": {}}) == ""
    assert grpo.missing(load_config(None, simulated), {"tasks": {}}) == "world-model"
    assert grpo.refusal("grpo", load_config(None, base), {}, "RUN") == "grpo needs tasks first: swe-master tasks --resume RUN"
    assert grpo.refusal("grpo", load_config(None, []), {"tasks": {}}, "RUN") == (
        "grpo needs sft first: swe-master sft --resume RUN, or grpo.initial_policy=base to begin with model.path"
    )


def test_a_demo_from_the_base_model_makes_no_sft() -> None:
    after = ("grpo", "eval-grpo", "world-model", "tts")
    assert stages_of("demo", load_config(None, []), {}) == ("tasks", "rollout", "curate", "sft", "eval-sft", *after)
    base = load_config(None, ["grpo.initial_policy=base"])
    assert stages_of("demo", base, {}) == ("tasks", "rollout", "eval-base", *after)


@pytest.mark.parametrize(
    ("initial", "finished", "policy"),
    [
        ("sft", (), "base"),
        ("sft", ("tasks",), "base"),
        ("sft", ("tasks", "sft"), "sft"),
        ("sft", ("tasks", "sft", "grpo"), "grpo"),
        ("base", ("tasks",), "base"),
        ("base", ("tasks", "sft"), "base"),
        ("base", ("tasks", "grpo"), "grpo"),
    ],
)
def test_an_evaluation_is_of_the_newest_policy(initial: str, finished: tuple[str, ...], policy: str) -> None:
    config = load_config(None, [f"grpo.initial_policy={initial}"])
    assert stages_of("eval", config, {name: {} for name in finished}) == (f"eval-{policy}",)


def test_a_plan_without_a_run_folder_says_what_a_new_one_lacks() -> None:
    code, said = swe_master("grpo", "--plan")
    assert (code, "run folder: a new one, in which grpo needs sft first: swe-master sft --resume RUN, or grpo.ini" in said) == (
        0,
        True,
    )
    assert "in which grpo needs tasks first" in swe_master("grpo", "--plan", "grpo.initial_policy=base")[1]
    assert swe_master("tasks", "--plan")[1].endswith("run folder: a new one\n")


def test_a_plan_in_a_run_folder_checks_its_stages_and_tasks(run: RunFolder, given: Path) -> None:
    words = ("grpo", "--resume", run.root, given, "--plan")
    code, said = swe_master(*words)
    assert (code, "grpo needs sft first" in said) == (2, True)
    run.record_stage("sft", {})
    assert "grpo needs world-model first" in swe_master(*words)[1]
    run.record_stage("world-model", {})
    write_tasks(run.tasks, [named("held", "heldout"), named("train", "train", "docker:someone/calc:1")])
    code, said = swe_master(*words)
    assert (code, "no train task can be played with sandbox.backend=simulated and sandbox.files_in=process" in said) == (2, True)
    code, said = swe_master(*words, "sandbox.files_in=docker", "grpo.eval_every=2")
    assert (code, "grpo can start, 1 train tasks can be played, 1 heldout tasks can be played" in said) == (0, True)
    assert "world-model" in said


def test_a_plan_from_the_base_model_asks_for_tasks(run: RunFolder) -> None:
    words = ("grpo", "--resume", run.root, "grpo.initial_policy=base", "--plan")
    assert "grpo needs tasks first" in swe_master(*words)[1]
    write_tasks(run.tasks, [named("train", "train")])
    run.record_stage("tasks", {})
    code, said = swe_master(*words)
    assert (code, "grpo can start, 1 train tasks can be played" in said) == (0, True)
