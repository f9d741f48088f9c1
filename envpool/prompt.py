"""What the agent is told before its first turn, and after each: prompt templates by name.

To add one: a PromptTemplate in PROMPTS. Templates may name `{workdir}`, `{problem_statement}` and `{tool_section}` (the tools'
documentation, generated from their schemas, and how to call them; empty when the chat template says both); other braces are
doubled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envpool.action_formats import ACTION_FORMATS, ActionFormat
from envpool.policy import Message
from envpool.problem import Problem
from envpool.tool import Tool


@dataclass(frozen=True)
class PromptTemplate:
    """`system` may be empty (then there is no system message). `no_call` answers a completion without a readable tool call and
    may name `{reason}`;
    `budget_line` adds the steps that are left to the first message and to every observation."""

    system: str
    user: str
    no_call: str
    budget_line: bool = False


def build_messages(
    template: PromptTemplate,
    problem: Problem,
    tools: Mapping[str, Tool],
    max_turns: int | None = None,
    action: ActionFormat = ACTION_FORMATS["xml"],
) -> tuple[Message, ...]:
    """The messages an episode starts with. The budget line needs `max_turns`."""
    fields = {
        "workdir": problem.workdir,
        "problem_statement": problem.problem_statement,
        "tool_section": tool_section(tools, action),
    }
    user = template.user.format(**fields)
    if template.budget_line and max_turns is not None:
        user = f"{user}\n{budget_line(0, max_turns)}"
    system = (Message("system", template.system.format(**fields)),) if template.system else ()
    return (*system, Message("user", user))


def budget_line(turns_used: int, max_turns: int) -> str:
    """
    >>> budget_line(3, 10), budget_line(9, 10)
    ('[7 of 10 steps left]', '[1 of 10 steps left: call submit now]')
    """
    left = max_turns - turns_used
    return f"[{left} of {max_turns} steps left{': call submit now' if left <= 1 else ''}]"


def tool_section(tools: Mapping[str, Tool], action: ActionFormat) -> str:
    """The tools and how to call them, with a heading each; "" for a form that the chat template documents."""
    if not action.instructions:
        return ""
    return f"\n\n# Tools\n{document_tools(tools)}\n\n# How to call a tool\n{action.instructions}"


def document_tools(tools: Mapping[str, Tool]) -> str:
    """The tools as prose: name, description, and a line for every parameter."""
    return "\n\n".join(_document(tool) for tool in tools.values())


def _document(tool: Tool) -> str:
    lines = [f"Tool {tool.name}: {tool.description}"]
    properties: Mapping[str, Any] = tool.parameters["properties"]
    for name, schema in properties.items():
        need = "required" if name in tool.parameters["required"] else "optional"
        choices = f" One of: {', '.join(schema['enum'])}." if "enum" in schema else ""
        lines.append(f"  - {name} ({schema['type']}, {need}): {schema['description']}{choices}")
    if not properties:
        lines.append("  (no parameters)")
    return "\n".join(lines)


_FULL_SYSTEM = """\
You are a software engineer who resolves issues in code repositories by calling tools in a sandbox. Nobody answers \
questions: decide for yourself and go on until the issue is resolved.

# How to work
1. Explore: read the issue, find the code it is about, look at how it is used and tested.
2. Reproduce: write a small script or test that shows the wrong behaviour, and run it.
3. Fix the cause, not the symptom, with the smallest change that is right. Follow the style of the code around it.
4. Verify: run your reproduction again and the tests near your change; think of edge cases.
5. Clean up files you made only for checking, then call submit.

Combine shell commands where that saves steps, prefer targeted searches (grep, find) to reading whole trees, and change \
existing files in place instead of making variants of them. Do not look for the solution in the version history, and do \
not change the tests to make them pass.{tool_section}"""

_FULL_USER = """\
The repository is in {workdir}. Resolve this issue in it:

<issue>
{problem_statement}
</issue>

The tests that go with the issue are already taken care of: change only files that are not tests, as little as is needed. \
Dependencies are installed. Your first step is to look around in {workdir}."""

_FULL_NO_CALL = (
    "Your answer held no tool call that could be read: {reason}. Go on with the task: end your answer with one tool call, "
    "or call submit when you are finished. Nobody can answer questions."
)

PROMPTS: dict[str, PromptTemplate] = {
    "compact": PromptTemplate(system="", user="{problem_statement}", no_call="no tool call"),
    "full": PromptTemplate(system=_FULL_SYSTEM, user=_FULL_USER, no_call=_FULL_NO_CALL, budget_line=True),
}
