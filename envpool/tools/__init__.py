"""What the agent can do.

To add a tool: write `envpool/tools/<name>.py` with one frozen dataclass that satisfies `envpool.tool.Tool` (name,
description, JSON schema, an async `__call__` that returns an Observation), add it to TOOLS, and name it in
`EpisodeConfig.tools` where it should be offered. Prompts document it from its schema.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from configs.rollout_config import EpisodeConfig
from envpool.tool import EpisodeTool, Tool
from envpool.tools.execute_bash import ExecuteBash
from envpool.tools.lsp_tool import LspTool
from envpool.tools.str_replace_editor import StrReplaceEditor
from envpool.tools.submit import Submit

TOOLS: dict[str, Tool] = {tool.name: tool for tool in (ExecuteBash(), StrReplaceEditor(), Submit(), LspTool())}


def select_tools(names: tuple[str, ...]) -> dict[str, Tool]:
    """The named tools, in that order. Raises ValueError for an unknown name."""
    unknown = [name for name in names if name not in TOOLS]
    if unknown:
        raise ValueError(f"no such tool {unknown[0]!r}; known: {', '.join(TOOLS)}")
    return {name: TOOLS[name] for name in names}


@asynccontextmanager
async def open_tools(config: EpisodeConfig) -> AsyncIterator[dict[str, Tool]]:
    """The tools of one episode; what they started is ended with it. Raises ValueError for an unknown name, and for a tool
    that cannot work here."""
    tools = select_tools(config.tools)
    opened = {name: tool.for_episode(config) for name, tool in tools.items() if isinstance(tool, EpisodeTool)}
    try:
        yield {**tools, **opened}
    finally:
        for tool in opened.values():
            await tool.close()
