"""What the agent can do.

To add a tool: write `envpool/tools/<name>.py` with one frozen dataclass that satisfies `envpool.tool.Tool` (name,
description, JSON schema, an async `__call__` that returns an Observation), add it to TOOLS, and name it in
`EpisodeConfig.tools` where it should be offered. Prompts document it from its schema.
"""

from envpool.tool import Tool
from envpool.tools.execute_bash import ExecuteBash
from envpool.tools.str_replace_editor import StrReplaceEditor
from envpool.tools.submit import Submit

TOOLS: dict[str, Tool] = {tool.name: tool for tool in (ExecuteBash(), StrReplaceEditor(), Submit())}


def select_tools(names: tuple[str, ...]) -> dict[str, Tool]:
    """The named tools, in that order. Raises ValueError for an unknown name."""
    unknown = [name for name in names if name not in TOOLS]
    if unknown:
        raise ValueError(f"no such tool {unknown[0]!r}; known: {', '.join(TOOLS)}")
    return {name: TOOLS[name] for name in names}
