"""What came of the language-server calls in a recorded conversation, read from what the tool answered."""

import re
from collections.abc import Sequence
from enum import Enum

from envpool.action_format import ToolCall, parse_action
from envpool.tool import complaint_about
from envpool.tools.lsp_tool import LspTool
from envpool.trajectory import Turn

LSP_TOOL = LspTool()
_STATUS = re.compile(r"status\W{1,4}(success|failure)", re.IGNORECASE)
_NOTHING = re.compile(r"nothing found\)?$|^nothing found$")
_DECLARES = re.compile(r"\b(?:def|class)\s")


class LspOutcome(Enum):
    """What a call gave."""

    SUCCESS = "success"
    EMPTY = "empty"  # it was answered: there is nothing
    FAILED = "failed"


def lsp_call(turn: Turn) -> ToolCall | None:
    """The turn's call of lsp_tool; None when it did something else."""
    parsed = parse_action(turn.action)
    return parsed[1] if parsed is not None and parsed[1].name == LSP_TOOL.name else None


def lsp_outcome(call: ToolCall, observation: str) -> LspOutcome:
    """By the status line of the long wording, or by the short wording's own signs."""
    first = observation.strip().partition("\n")[0]
    status = _STATUS.search(first)
    if status is None and (first.startswith("error:") or complaint_about(call, LSP_TOOL.parameters) is not None or not first):
        return LspOutcome.FAILED
    if status is not None and status[1].lower() == "failure":
        return LspOutcome.FAILED
    return LspOutcome.EMPTY if _NOTHING.search(first) else LspOutcome.SUCCESS


def num_lsp_successes(turns: Sequence[Turn]) -> int:
    """Calls that were answered with something."""
    calls = ((lsp_call(turn), turn.observation) for turn in turns)
    return sum(call is not None and lsp_outcome(call, said) is LspOutcome.SUCCESS for call, said in calls)


def useless_lsp_turns(turns: Sequence[Turn]) -> tuple[int, ...]:
    """Positions of calls that failed, and of searches by declaration ("def name", "class name") that found nothing: a server
    looks for names, so such a query can find nothing. None in a history that was rewritten: it cannot be cut."""
    found: list[int] = []
    if any(turn.restart for turn in turns[1:]):
        return ()
    for index, turn in enumerate(turns):
        call = lsp_call(turn)
        if call is None:
            continue
        outcome = lsp_outcome(call, turn.observation)
        declares = _DECLARES.search(call.arguments.get("query", "")) is not None
        if outcome is LspOutcome.FAILED or (outcome is LspOutcome.EMPTY and declares):
            found.append(index)
    return tuple(found)
