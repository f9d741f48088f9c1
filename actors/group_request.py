"""What a rollout worker is asked for: one group of episodes."""

from dataclasses import dataclass

from envpool.task import Task


@dataclass(frozen=True)
class GroupRequest:
    """`group_size` episodes of one task by one policy (`engine`, `endpoint` or a scripted teacher's name), sampled at
    `temperature`; `seed` and the sample index decide an episode's dice.

    `resume`: an earlier process began the group; go on where this run's journals show that it stood. `max_turns` replaces
    rollout.episode.max_turns, unless 0. `real`: commands are executed and hidden tests decide, also in a run that trains with
    a world model (every evaluation); its audits neither see nor count such a group. `beside_training`: an evaluation that lets
    training groups go first.
    """

    task: Task
    policy: str
    group_size: int
    temperature: float
    seed: int
    resume: bool = False
    max_turns: int = 0
    real: bool = False
    beside_training: bool = False
