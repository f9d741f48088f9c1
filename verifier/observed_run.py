"""What an episode itself found out about its patch: evidence that needs no oracle."""

from envpool.action_format import parse_action
from envpool.trajectory import Trajectory


def observed_run(trajectory: Trajectory, max_chars: int = 2_000) -> str:
    """The tool's answer to the last command that ran after the last edit, its end when it is long; "" without one.

    An edit is any editor call but `view`: what was seen before it says nothing about the patch.
    """
    for turn in reversed(trajectory.turns):
        parsed = parse_action(turn.action)
        if parsed is None:
            continue
        _, call = parsed
        if call.name == "execute_bash":
            return turn.observation[-max_chars:]
        if call.name == "str_replace_editor" and call.arguments.get("command") != "view":
            return ""
    return ""
