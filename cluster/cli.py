"""The command line: `swe-master VERB [CONFIG.yaml] [key=value ...] [--plan] [--print-config] [--resume RUN]`.

Heavy imports come after the configuration is read, so `--help` and mistakes answer at once.
"""

import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")

Settings = Annotated[list[str] | None, typer.Argument(help="CONFIG.yaml and key=value overrides", show_default=False)]
Plan = Annotated[bool, typer.Option("--plan", help="Print the placement groups and exit; starts nothing.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the resolved configuration and exit.")]
Words = Annotated[list[str] | None, typer.Argument(help="`difficulty FILE...`, or as the other stages", show_default=False)]
AsJSON = Annotated[bool, typer.Option("--json", help="With difficulty: one JSON object per file.")]
Run = Annotated[Path, typer.Argument(help="Run folder")]
Instance = Annotated[str, typer.Option(help="Show this instance's trajectories.")]
Target = Annotated[Path, typer.Option(help="Folder to write")]
Resume = Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Go on in this run folder.", show_default=False)]

STAGE_HELP = {
    "demo": "All stages on one machine, from tasks to test-time scaling; ends with report.html.",
    "tasks": "Make or import tasks: micro tasks, tasks from a package, dataset rows.",
    "rollout": "Play training tasks with teachers, several episodes each (best-of-N).",
    "sft": "Supervised fine-tuning on the curated trajectories.",
    "grpo": "Reinforcement learning with real test execution.",
    "world-model": "Train SWE-World's reward model on the real outcomes of rollouts.",
    "tts": "Choose among K candidates per held-out task with the reward model.",
    "eval": "pass@1 and pass@k of the newest policy on held-out tasks, with predictions.",
}


def fail(message: str, code: int = 2) -> NoReturn:
    """One line on stderr, then exit."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(code)


def run_verb(verb: str, settings: list[str] | None, plan: bool, print_config: bool, resume: Path | None) -> None:
    """Read the configuration, then run one stage (or the demo) in a new or resumed run folder."""
    from configs.stage_loading import ConfigError, config_as_yaml, load_config

    words = settings or []
    paths = [Path(word) for word in words if "=" not in word]
    if len(paths) > 1:
        fail(f"one configuration file at most, got {', '.join(map(str, paths))}")
    if resume is not None and not (resume / "config.yaml").is_file():
        fail(f"{resume} is not a run folder: it has no config.yaml")
    if resume is not None and paths:
        fail("--resume takes its configuration from the run folder; give key=value overrides only")
    try:
        config_path = resume / "config.yaml" if resume is not None else (paths[0] if paths else None)
        config = load_config(config_path, [word for word in words if "=" in word])
    except ConfigError as error:
        fail(str(error))
    if print_config:
        print(config_as_yaml(config), end="")
        return
    if plan:
        from cluster.placement import PlacementError, plan_placement, render_plan

        try:
            print(render_plan(plan_placement(config)))
        except PlacementError as error:
            fail(str(error))
        return
    # Also where the shell started this with SIGINT ignored (a background job): a run must always be stoppable.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    from cluster.stage_running import run_stages

    raise typer.Exit(run_stages(verb, config, resume))


def add_stage_verb(verb: str, text: str) -> None:
    """One line per stage: they share their options."""

    @app.command(verb, help=text)
    def stage_verb(
        settings: Settings = None, plan: Plan = False, print_config: PrintConfig = False, resume: Resume = None
    ) -> None:
        run_verb(verb, settings, plan, print_config, resume)


for _verb, _text in STAGE_HELP.items():
    add_stage_verb(_verb, _text)


@app.command()
def curate(
    words: Words = None,
    as_json: AsJSON = False,
    plan: Plan = False,
    print_config: PrintConfig = False,
    resume: Resume = None,
) -> None:
    """Difficulty statistics, the mixed-results filter and format filters; writes the SFT set."""
    if not words or words[0] != "difficulty":
        run_verb("curate", words, plan, print_config, resume)
        return
    from cluster.difficulty_table import print_difficulty

    if not words[1:]:
        fail("curate difficulty needs at least one JSONL file with a reward_mean per line")
    try:
        print_difficulty([Path(word) for word in words[1:]], as_json)
    except (OSError, ValueError) as error:
        fail(str(error))


@app.command()
def view(run: Run, trajectory: Instance = "") -> None:
    """Results of a run, or the trajectories of one task, in the terminal."""
    from cluster.run_folder import RunFolder, RunFolderError
    from cluster.run_view import show_run, show_trajectories

    try:
        folder = RunFolder.open(run)
        if trajectory:
            show_trajectories(folder, trajectory)
        else:
            show_run(folder)
    except (RunFolderError, OSError, ValueError) as error:
        fail(str(error))


@app.command()
def export(run: Run, to: Target = Path("export")) -> None:
    """The newest policy as a Hugging Face folder, with predictions and report."""
    from cluster.run_export import export_run
    from cluster.run_folder import RunFolder, RunFolderError

    try:
        for line in export_run(RunFolder.open(run), to):
            print(line)
    except (RunFolderError, OSError) as error:
        fail(str(error))


@app.command()
def doctor() -> None:
    """Is this machine ready? Each check with what to do; exit code 1 when something needed is missing."""
    from cluster.doctor import print_checks

    raise typer.Exit(print_checks())


def main() -> None:
    app()


if __name__ == "__main__":
    main()
