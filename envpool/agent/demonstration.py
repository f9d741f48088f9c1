"""Worked examples for few-shot prompts: written once as calls, shown in whatever action format the episode speaks."""

from dataclasses import dataclass

from envpool.action_format import ToolCall
from envpool.action_formats import ActionFormat
from envpool.chat.chat_layout import said


@dataclass(frozen=True)
class DemonstrationStep:
    """What the agent thought, did and saw."""

    thought: str
    call: ToolCall
    result: str


@dataclass(frozen=True)
class Demonstration:
    """A few steps of an invented episode."""

    title: str
    steps: tuple[DemonstrationStep, ...]


def show(demonstration: Demonstration, action: ActionFormat) -> str:
    """The demonstration as plain text."""
    lines = [f"<example>\n{demonstration.title}"]
    for step in demonstration.steps:
        message = action.message(f"{step.thought}\n\n", step.call)
        lines.append(f"[you]\n{said(message)}")
        lines.append(f"[result]\n{step.result}")
    return "\n".join([*lines, "</example>"])


def _call(name: str, **arguments: str | int) -> ToolCall:
    texts = {key: str(value) for key, value in arguments.items()}
    numbers = frozenset(key for key, value in arguments.items() if isinstance(value, int))
    return ToolCall(name, texts, json_values=numbers)


EDITING = Demonstration(
    "How an edit looks (another repository; do not look for these files).",
    (
        DemonstrationStep(
            "The traceback ends in parse_rate. Let me see it.",
            _call("execute_bash", command="grep -rn 'def parse_rate' src"),
            "Exit code: 0\nOutput of execute_bash:\nsrc/rates.py:14:def parse_rate(text):",
        ),
        DemonstrationStep(
            "It divides by 100 even when there is no percent sign. I change that one line.",
            _call(
                "str_replace_editor",
                command="str_replace",
                path="src/rates.py",
                old_str="    return float(text.rstrip('%')) / 100",
                new_str="    value = float(text.rstrip('%'))\n    return value / 100 if text.endswith('%') else value",
            ),
            "Output of str_replace_editor:\nEdited /testbed/src/rates.py. The lines around the change:\n"
            "    14 def parse_rate(text):\n    15     value = float(text.rstrip('%'))\n"
            "    16     return value / 100 if text.endswith('%') else value",
        ),
        DemonstrationStep(
            "Now the reproduction and the tests near it.",
            _call("execute_bash", command="python repro.py && python -m pytest -q tests/test_rates.py && rm repro.py"),
            "Exit code: 0\nOutput of execute_bash:\n0.5 50.0\n6 passed in 0.04s",
        ),
    ),
)
NAVIGATING = Demonstration(
    "How to find code with lsp_tool (another repository; do not look for these files).",
    (
        DemonstrationStep(
            "The issue names Cache.evict. Where is it?",
            _call("lsp_tool", command="get_workspace_symbols", query="evict"),
            "Status: success (1 symbol)\n[Result]\nevict (Method) [in Cache] at store/cache.py (line 52)",
        ),
        DemonstrationStep(
            "Before I change what it returns: who uses it?",
            _call("lsp_tool", command="get_references", file_path="store/cache.py", line=52, symbol="evict"),
            "Status: success (2 references)\n[Result]\nstore/cache.py: line 71\nstore/pool.py: line 33",
        ),
    ),
)
