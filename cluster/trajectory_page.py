"""One trajectory as HTML, escaped: what an agent or a repository says is never markup."""

from html import escape

from cluster.run_folder import RunFolder
from envpool.trajectories.trajectory_store import read_trajectories
from envpool.trajectory import Trajectory

NEWEST_FIRST = ("eval-grpo", "eval-sft", "eval-base", "rollout")


def sample_trajectory_html(folder: RunFolder) -> str:
    """A resolved episode of the newest policy, the longest among its first stored shard (it shows most)."""
    for name in NEWEST_FIRST:
        shards = sorted((folder.root / "trajectories" / name).glob("*.parquet"))
        if not shards:
            continue
        rows = list(read_trajectories(shards[0]))
        resolved = [row for row in rows if row[1].get("resolved")] or rows
        if resolved:
            trajectory, columns = max(resolved, key=lambda row: len(row[0].turns))
            return trajectory_html(name, trajectory, columns)
    return ""


def trajectory_html(stage: str, trajectory: Trajectory, columns: dict[str, bool | float | str]) -> str:
    """Prompt, turns with tool answers, patch, test log."""
    parts = [
        f"<p class='s'>{escape(trajectory.instance_id)} · {escape(stage)} · sample {trajectory.sample_index} · "
        f"{escape(trajectory.stop_reason.value)} · resolved {columns.get('resolved')} · reward {columns.get('reward')} · "
        f"{trajectory.num_tokens} tokens, {trajectory.seconds:.2f} s</p>",
        f"<pre>{escape(trajectory.prompt)}</pre>",
    ]
    for turn in trajectory.turns:
        parts.append(f"<pre class='agent'>{escape(turn.text)}</pre>")
        if turn.observation:
            parts.append(f"<pre>{escape(turn.observation)}</pre>")
    parts.append(f"<details open><summary>patch</summary><pre>{escape(trajectory.patch.diff) or '(empty)'}</pre></details>")
    log = escape(str(columns.get("report_text", "")))
    parts.append(f"<details><summary>hidden tests' log</summary><pre>{log}</pre></details>")
    return "".join(parts)
