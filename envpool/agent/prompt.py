"""What the agent is told before its first turn, and after each: prompt templates by name.

To add one: a PromptTemplate in PROMPTS. A template whose words change gets a new version. Templates may name `{workdir}`,
`{problem_statement}` and `{tool_section}` (the tools' documentation, generated from their schemas, and how to call them; empty
when the chat template says both); other braces are doubled.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from envpool.action_formats import ACTION_FORMATS, ActionFormat, action_format
from envpool.agent.demonstration import EDITING, NAVIGATING, Demonstration, show
from envpool.agent.prompt_texts import FULL_NO_CALL, FULL_SYSTEM, FULL_USER, LSP_FIRST
from envpool.policy import Message
from envpool.problem import Problem
from envpool.tool import Tool, tool_schemas


@dataclass(frozen=True)
class PromptTemplate:
    """`system` may be empty (then there is no system message). `no_call` answers a completion without a readable tool call and
    may name `{reason}`. `budget_line` adds the steps that are left to the first message and to every observation; `needs` are
    tools that must be offered; `demonstrations` come before the user's text, written in the action format of the episode."""

    version: str
    system: str
    user: str
    no_call: str
    budget_line: bool = False
    needs: tuple[str, ...] = ()
    demonstrations: tuple[Demonstration, ...] = ()


def build_messages(
    template: PromptTemplate,
    problem: Problem,
    tools: Mapping[str, Tool],
    max_turns: int | None = None,
    action: ActionFormat = ACTION_FORMATS["xml"],
) -> tuple[Message, ...]:
    """The messages an episode starts with. The budget line needs `max_turns`. Raises ValueError when a needed tool is not
    offered."""
    missing = [name for name in template.needs if name not in tools]
    if missing:
        raise ValueError(f"this prompt is about {missing[0]}: add it to rollout.episode.tools, or choose another prompt")
    fields = {
        "workdir": problem.workdir,
        "problem_statement": problem.problem_statement,
        "tool_section": tool_section(tools, action),
    }
    user = "\n\n".join([*(show(one, action) for one in template.demonstrations), template.user.format(**fields)])
    if template.budget_line and max_turns is not None:
        user = f"{user}\n{budget_line(0, max_turns)}"
    system = (Message("system", template.system.format(**fields)),) if template.system else ()
    return (*system, Message("user", user))


def prompt_version(name: str, action: str, tools: Mapping[str, Tool]) -> str:
    """What tells two prompts apart in a record: name, version and action format, and a digest of all their words.

    Raises ValueError for an unknown name.
    """
    template = prompt_template(name)
    words = [template.system, template.user, template.no_call, str(template.budget_line), action]
    words += [show(one, action_format(action)) for one in template.demonstrations]
    words += [json.dumps(tool_schemas(tools), sort_keys=True), action_format(action).instructions]
    digest = hashlib.blake2b("\0".join(words).encode(), digest_size=4).hexdigest()
    return f"{name}/{template.version}/{action}/{digest}"


def prompt_template(name: str) -> PromptTemplate:
    """The named template. Raises ValueError for an unknown name."""
    if name not in PROMPTS:
        raise ValueError(f"no such prompt {name!r}; known: {', '.join(PROMPTS)}")
    return PROMPTS[name]


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


_FULL = PromptTemplate(version="2", system=FULL_SYSTEM, user=FULL_USER, no_call=FULL_NO_CALL, budget_line=True)
_LSP = replace(_FULL, system=FULL_SYSTEM.replace("{tool_section}", LSP_FIRST + "{tool_section}"), needs=("lsp_tool",))

PROMPTS: dict[str, PromptTemplate] = {
    "compact": PromptTemplate(version="1", system="", user="{problem_statement}", no_call="no tool call"),
    "full": _FULL,
    "few_shot": replace(_FULL, demonstrations=(EDITING,)),
    "lsp": _LSP,
    "lsp_few_shot": replace(_LSP, demonstrations=(NAVIGATING, EDITING)),
}
