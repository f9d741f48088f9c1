"""The command line: `swe-master VERB [CONFIG.yaml] [key=value ...] [--plan] [--print-config] [--resume RUN]`.

Heavy imports come after the configuration is read, so `--help` and mistakes answer at once.
"""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli_errors import fail
from cluster.kuberay_command import kuberay_app
from cluster.serve_command import serve_verb

if TYPE_CHECKING:
    from configs.run_config import RunConfig

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")

Settings = Annotated[list[str] | None, typer.Argument(help="CONFIG.yaml and key=value overrides", show_default=False)]
Plan = Annotated[bool, typer.Option("--plan", help="Print the placement groups and exit; starts nothing.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the resolved configuration and exit.")]
Words = Annotated[
    list[str] | None, typer.Argument(help="RUN or CONFIG.yaml and key=value overrides, or a sub-verb", show_default=False)
]
AsJSON = Annotated[bool, typer.Option("--json", help="With a sub-verb: JSON, one object a line.")]
Total = Annotated[bool, typer.Option("--total", help="With difficulty: also all files together.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="With funnel: a Markdown table.")]
SamplesTo = Annotated[
    Path | None, typer.Option("--to", help="With export-sft, import-sft: FILE.jsonl or FILE.parquet", show_default=False)
]
Split = Annotated[str, typer.Option("--split", help="With export-sft: train or heldout.")]
TaskWords = Annotated[list[str] | None, typer.Argument(help="`prepare INPUT...`, or as the other stages", show_default=False)]
TaskSource = Annotated[str, typer.Option("--source", help="With prepare: the dataset's adapter.", show_default=False)]
TaskFile = Annotated[Path | None, typer.Option("--to", help="With prepare: the Parquet file to write.", show_default=False)]
Against = Annotated[
    list[Path] | None, typer.Option("--against", help="With prepare: prepared held-out tasks to keep out.", show_default=False)
]
KeepRepositories = Annotated[
    bool, typer.Option("--keep-repositories", help="With prepare: keep other issues of held-out repositories.")
]
TaskSplit = Annotated[str, typer.Option("--split", help="With prepare: train or heldout.")]
TasksJSON = Annotated[bool, typer.Option("--json", help="With prepare: one JSON object instead of tables.")]
Run = Annotated[Path, typer.Argument(help="Run folder")]
Instance = Annotated[str, typer.Option(help="Show this instance's trajectories.")]
Target = Annotated[Path, typer.Option(help="Folder to write")]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        metavar="RUN",
        help="Go on in this run folder, with its settings; those of a CONFIG.yaml replace them.",
        show_default=False,
    ),
]

STAGE_HELP = {
    "demo": "All stages on one machine, from tasks to test-time scaling; ends with report.html.",
    "tasks": "Make or import tasks: micro tasks, tasks from a package, dataset rows.",
    "rollout": "Play training tasks with teachers, several episodes each (best-of-N).",
    "sft": "Supervised fine-tuning on the curated trajectories.",
    "grpo": "Reinforcement learning with real test execution, or with simulated rewards and audits.",
    "world-model": "Train SWE-World's world model (scorer, environment) on recorded rollouts, and calibrate it.",
    "tts": "Choose among K candidates per held-out task with the world model.",
    "eval": "pass@1 and pass@k of the newest policy on held-out tasks, with predictions.",
}


CURATE_WORDS = ("difficulty", "funnel", "export-sft", "import-sft")
CURATE_HELP = """Choose what to learn from: difficulty, named filters, cap, split; writes curated.json and a funnel.

`curate RUN curate.KEY=VALUE ...` curates the rollouts of a run folder (as `--resume RUN`). Settings:
curate.filters, curate.mean_low, curate.mean_high, curate.max_per_task, curate.heldout_share, curate.statistics, ...

`curate difficulty FILE...` counts statistics files (a reward_mean per line).

`curate funnel RUN` shows again what each step left.

`curate export-sft RUN --to FILE` writes the chosen trajectories as messages + tools (JSONL or Parquet).

`curate import-sft FILE [--to FILE]` checks such a file, or SWE-Master's own SFT rows, and converts it.
"""


def read_settings(settings: list[str] | None, run: Path | None = None) -> "RunConfig":
    """The configuration that `CONFIG.yaml key=value ...` describe, over that of the run folder `run`. Raises ConfigError."""
    from configs.stage_loading import load_config

    words = settings or []
    paths = [Path(word) for word in words if "=" not in word]
    if len(paths) > 1:
        fail(f"one configuration file at most, got {', '.join(map(str, paths))}")
    own, given = None if run is None else run / "config.yaml", paths[0] if paths else None
    return load_config(own, [word for word in words if "=" in word], given)


def run_verb(verb: str, settings: list[str] | None, plan: bool, print_config: bool, resume: Path | None) -> None:
    """Read the configuration, then run one stage (or the demo) in a new or resumed run folder."""
    from configs.stage_loading import ConfigError, config_as_yaml

    if resume is not None and not (resume / "config.yaml").is_file():
        fail(f"{resume} is not a run folder: it has no config.yaml")
    try:
        config = read_settings(settings, resume)
    except ConfigError as error:
        fail(str(error))
    if print_config:
        print(config_as_yaml(config), end="")
        return
    if plan:
        from cluster.plan_command import print_plan

        print_plan(verb, config, fail, resume)
        return
    # Also where the shell started this with SIGINT ignored (a background job): a run must always be stoppable.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    from cluster.stage_running import run_stages

    raise typer.Exit(run_stages(verb, config, resume, settings or []))


def add_stage_verb(verb: str, text: str) -> None:
    """One line per stage: they share their options."""

    @app.command(verb, help=text)
    def stage_verb(
        settings: Settings = None, plan: Plan = False, print_config: PrintConfig = False, resume: Resume = None
    ) -> None:
        run_verb(verb, settings, plan, print_config, resume)


for _verb, _text in STAGE_HELP.items():
    if _verb != "tasks":
        add_stage_verb(_verb, _text)


@app.command("tasks", help=STAGE_HELP["tasks"] + " `tasks prepare INPUT... --source NAME --to FILE` compiles a dataset once.")
def tasks_verb(
    words: TaskWords = None,
    source: TaskSource = "",
    to: TaskFile = None,
    against: Against = None,
    keep_repositories: KeepRepositories = False,
    split: TaskSplit = "train",
    as_json: TasksJSON = False,
    plan: Plan = False,
    print_config: PrintConfig = False,
    resume: Resume = None,
) -> None:
    if not words or words[0] != "prepare":
        if source or to is not None or against or keep_repositories or split != "train" or as_json:
            fail("--source, --to, --against, --keep-repositories, --split and --json belong to `tasks prepare INPUT...`")
        run_verb("tasks", words, plan, print_config, resume)
        return
    if plan or print_config or resume is not None:
        fail("tasks prepare makes no run: it takes no --plan, --print-config or --resume")
    if not words[1:] or not source or to is None:
        fail("tasks prepare needs at least one INPUT, --source NAME and --to FILE.parquet")
    from cluster.tasks_prepare import print_preparation

    try:
        print_preparation(words[1:], source, to, against or [], keep_repositories=keep_repositories, split=split, as_json=as_json)
    except (OSError, ValueError) as error:
        fail(str(error))


@app.command(help=CURATE_HELP)
def curate(
    words: Words = None,
    as_json: AsJSON = False,
    total: Total = False,
    markdown: Markdown = False,
    to: SamplesTo = None,
    split: Split = "train",
    plan: Plan = False,
    print_config: PrintConfig = False,
    resume: Resume = None,
) -> None:
    words = words or []
    if not words or words[0] not in CURATE_WORDS:
        if words and resume is None and Path(words[0]).is_dir():
            resume, words = Path(words[0]), words[1:]
        run_verb("curate", words, plan, print_config, resume)
        return
    from cluster.curate_verbs import CURATE_VERBS, CurateOptions
    from cluster.run_folder import RunFolderError

    try:
        CURATE_VERBS[words[0]](words[1:], CurateOptions(as_json, total, markdown, to, split))
    except (RunFolderError, OSError, ValueError) as error:
        fail(str(error))


@app.command()
def view(
    run: Annotated[Path, typer.Argument(help="Run folder, or a folder of runs")],
    text: Annotated[bool, typer.Option("--text", help="In the terminal: the results, or one task's trajectories.")] = False,
    trajectory: Instance = "",
    export_to: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE.html", help="Write one file that needs no server.", show_default=False),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve on; any but loopback asks for the token in the link.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to serve on; 0 takes a free one.")] = 8765,
) -> None:
    """A run in the browser: groups side by side, turns, tokens, patches, tests, timelines, curves; search and filters.

    swe-master view runs/demo-20260101-120000

    swe-master view runs/demo-20260101-120000 --export demo.html

    swe-master view runs/demo-20260101-120000 --text --trajectory django__django-11099
    """
    from cluster.run_folder import RunFolderError
    from cluster.run_view import export_view, serve_view, show_text

    try:
        if text or trajectory:
            show_text(run, trajectory)
        elif export_to is not None:
            export_view(run, export_to)
        else:
            serve_view(run, host, port)
    except (RunFolderError, OSError, ValueError) as error:
        fail(str(error))


@app.command()
def export(run: Run, to: Target = Path("export")) -> None:
    """The newest policy as a Hugging Face folder, with predictions and report."""
    from cluster.run_export import export_run
    from cluster.run_folder import RunFolder, RunFolderError
    from configs.stage_loading import ConfigError

    try:
        for line in export_run(RunFolder.open(run), to):
            print(line)
    except (RunFolderError, ConfigError, OSError) as error:
        fail(str(error))


app.command("serve")(serve_verb)

app.add_typer(kuberay_app, name="cluster")


@app.command()
def trajectories(
    source: Annotated[Path, typer.Argument(help="A run folder, or a file of another tool's trajectories with --from.")],
    to: Annotated[Path, typer.Option(help="Folder, or a .jsonl file, to write.")],
    form: Annotated[str, typer.Option("--format", help="atif, openai, r2e_gym, swe_agent, mini_swe_agent, parquet.")] = "atif",
    origin: Annotated[str, typer.Option("--from", help="The format of SOURCE when it is a file.")] = "",
    model: Annotated[str, typer.Option(help="With --format parquet: folder of the tokenizer.")] = "tiny_base",
    calls: Annotated[str, typer.Option("--action-format", help="With --format parquet: xml or native.")] = "xml",
    stage: Annotated[str, typer.Option(help="Which trajectories of the run: rollout, eval-sft, eval-grpo, ...")] = "rollout",
) -> None:
    """A run's trajectories in other tools' formats, or a file from one format to another.

    swe-master trajectories runs/demo --format atif --to atif/
    swe-master trajectories runs.jsonl --from r2e_gym --format mini_swe_agent --to mini/
    swe-master trajectories runs.jsonl --from r2e_gym --format parquet --model MODEL --to runs.parquet
    """
    from cluster.run_folder import RunFolder, RunFolderError
    from cluster.trajectory_verbs import Rendering, convert_trajectories, export_trajectories, trajectory_format

    try:
        if origin:
            count = convert_trajectories(source, origin, form, to, Rendering(model, calls))
        else:
            count = export_trajectories(RunFolder.open(source), stage, trajectory_format(form), to)
        print(f"{to}: {count} trajectories ({form})")
    except (RunFolderError, OSError, ValueError) as error:
        fail(str(error))


@app.command()
def grade(
    settings: Settings = None,
    trajectories: Annotated[Path | None, typer.Option(help="Recorded trajectories (R2E-Gym's JSONL) to grade again.")] = None,
    log: Annotated[Path | None, typer.Option(help="One test log to grade again, with --report.")] = None,
    report: Annotated[Path | None, typer.Option(help="The log's recorded report (SWE-smith's or swebench's).")] = None,
    log_parser: Annotated[str, typer.Option(help="Parser of --log; without one, ours that finds most tests.")] = "",
    predictions: Annotated[Path | None, typer.Option(help="SWE-bench predictions to grade by running the tests here.")] = None,
    tasks: Annotated[
        Path | None, typer.Option(help="Their tasks: a run folder, a folder of tasks, or a prepared Parquet.")
    ] = None,
    to: Annotated[Path, typer.Option(help="Where SWE-bench's evaluation folder of the predictions goes.")] = Path("graded"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Grade again what was recorded (no test runs), or grade predictions by really running their hidden tests: with the settings
    of the run that --tasks names, which CONFIG.yaml and key=value replace.

    swe-master grade --trajectories FILE.jsonl --json
    swe-master grade --log test_output.txt --report report.json --json
    swe-master grade --predictions preds.jsonl --tasks runs/demo --to graded
    """
    from configs.stage_loading import ConfigError
    from envpool.dataset_rows.row_file import RowFileError
    from envpool.sandbox_errors import SandboxError
    from envpool.task_sets.task_file import TaskFileError
    from envpool.task_sets.task_store import TaskStoreError
    from verifier.log_parsers.swebench_log import LogParserMissingError
    from verifier.regrade import RegradeError

    modes = [trajectories is not None, log is not None, predictions is not None]
    if sum(modes) != 1 or (log is None) != (report is None) or (predictions is None) != (tasks is None):
        fail("give --trajectories FILE, or --log FILE with --report FILE, or --predictions FILE with --tasks RUN")
    try:
        if predictions is None or tasks is None:
            from cluster.regrade_command import print_regraded

            raise typer.Exit(print_regraded(trajectories, log, report, log_parser, as_json))
        from cluster.predictions_command import grade_predictions, task_set

        found, images = task_set(tasks)
        config = read_settings(settings, tasks if (tasks / "config.yaml").is_file() else None)
        raise typer.Exit(grade_predictions(config, found, images, predictions, to, predictions.stem, print))
    except (ConfigError, LogParserMissingError, RegradeError, RowFileError, SandboxError, OSError) as error:
        fail(str(error))
    except (TaskFileError, TaskStoreError) as error:
        fail(str(error))


@app.command()
def explain(settings: Settings = None) -> None:
    """The objective of reinforcement learning as a formula with its numbers; what cannot act is refused with the reason."""
    from configs.stage_loading import ConfigError
    from trainers.objective_text import objective_text

    try:
        print(objective_text(read_settings(settings)))
    except (ConfigError, ValueError) as error:
        fail(str(error))


@app.command()
def doctor(settings: Settings = None) -> None:
    """Is this machine ready for a run with these settings? Each check with what to do; exit code 1 when something is missing.

    swe-master doctor configs/yaml/swe_master_32b.yaml
    """
    from cluster.doctor import print_checks
    from configs.stage_loading import ConfigError

    try:
        raise typer.Exit(print_checks(read_settings(settings)))
    except ConfigError as error:
        fail(str(error))


def main() -> None:
    app()


if __name__ == "__main__":
    main()
