"""What `swe-master view` shows: the web viewer, one exported file, or a run in the terminal."""

from pathlib import Path
from threading import Thread

from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cluster.run_folder import RunFolder
from cluster.run_report import result_rows
from envpool.trajectories.trajectory_store import read_trajectories
from envpool.trajectory import Trajectory


def results_table(folder: RunFolder) -> RenderableType:
    """Quantities with intervals, then seconds per stage."""
    records = folder.stage_records()
    table = Table("quantity", "value, 95 % interval", "measured on", title=folder.root.name)
    for row in result_rows(records):
        table.add_row(*row)
    times = ", ".join(f"{name} {record['seconds']:.0f}" for name, record in records.items())
    table.caption = f"seconds: {times}"
    return table


def serve_view(path: Path, host: str, port: int) -> None:
    """Serve until Ctrl-C. A port that is taken is replaced by a free one, and said. Raises RunFolderError, OSError."""
    from cluster.viewer.viewer_answers import RunLibrary
    from cluster.viewer.web_server import open_server

    library = RunLibrary(path)
    server, moved = open_server(library, host, port)
    Thread(target=library.read_ahead, daemon=True).start()
    if moved:
        print(f"port {port} is taken; using another")
    print(f"{path}: {server.link}  (Ctrl-C ends it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()


def export_view(path: Path, to: Path) -> None:
    """Write the run as one HTML file and say what is in it. Raises RunFolderError, OSError."""
    from cluster.viewer.html_export import export_html

    print(export_html(path, to))


def show_text(path: Path, instance_id: str) -> None:
    """In the terminal: a run's results, or every stored episode of a task. Raises RunFolderError, ValueError."""
    folder = RunFolder.open(path)
    if instance_id:
        show_trajectories(folder, instance_id)
    else:
        show_run(folder)


def show_run(folder: RunFolder) -> None:
    Console().print(results_table(folder))
    print(f"report: {folder.root / 'report.html'}")


def show_trajectories(folder: RunFolder, instance_id: str) -> None:
    """Every stored episode of one task, turn by turn. Raises ValueError when there is none."""
    console = Console(highlight=False)
    found = False
    for path in sorted((folder.root / "trajectories").glob("**/*.parquet")):
        for trajectory, columns in read_trajectories(path):
            if trajectory.instance_id == instance_id:
                found = True
                print_trajectory(console, f"{path.parent.name}/{path.stem}", trajectory, columns)
    if not found:
        raise ValueError(f"no trajectory of {instance_id} in {folder.root / 'trajectories'}")


def print_trajectory(console: Console, title: str, trajectory: Trajectory, columns: dict[str, bool | float | str]) -> None:
    console.rule(f"{title} · sample {trajectory.sample_index} · {trajectory.policy_name}")
    for turn in trajectory.turns:
        console.print(
            Panel(Text(turn.text), title="summary" if turn.summary else "agent", title_align="left", border_style="blue")
        )
        if turn.observation:
            console.print(Panel(Text(turn.observation), title="tool", title_align="left"))
    outcome = f"resolved {columns.get('resolved')}, reward {columns.get('reward')}"
    console.print(Text(f"{trajectory.stop_reason.value}, {outcome}, {trajectory.seconds:.2f} s"))
