"""What a tool is, and how a call that a model wrote reaches it: whatever is wrong with the call becomes an observation."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from configs.rollout_config import EpisodeConfig
from envpool.action_format import ToolCall
from envpool.sandbox import Sandbox
from envpool.sandbox_errors import SandboxError

JsonSchema = Mapping[str, Any]
_INTEGER = re.compile(r"-?[0-9]{1,9}")
_PAIR = re.compile(r"\[?(-?[0-9]{1,9}),(-?[0-9]{1,9})\]?")


@dataclass(frozen=True)
class Observation:
    """What a tool says to the agent. `done` ends the episode."""

    text: str
    done: bool = False


@dataclass(frozen=True)
class ToolLimits:
    """Bounds of one call: seconds, bytes of the observation (more is cut in the middle), and which wording is used."""

    timeout_s: float
    max_observation_bytes: int
    compact: bool

    def say(self, short: str, long: str) -> Observation:
        """An observation in the configured wording."""
        return Observation(short if self.compact else long)


class Tool(Protocol):
    """One thing an agent can do. `parameters` is a JSON schema of type object whose properties are strings, integers or
    pairs of integers; a call reaches the tool only when it satisfies the schema.

    Raises SandboxError when the sandbox broke; whatever the agent did wrong is an Observation.
    """

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def parameters(self) -> JsonSchema: ...
    async def __call__(self, sandbox: Sandbox, arguments: Mapping[str, str], limits: ToolLimits) -> Observation: ...


@runtime_checkable
class EpisodeTool(Tool, Protocol):
    """A tool that keeps something running between the calls of one episode."""

    def for_episode(self, config: EpisodeConfig) -> "EpisodeTool":
        """The tool that one episode uses. Raises ValueError when it cannot work here with this configuration."""
        ...

    async def close(self) -> None:
        """End what the tool of an episode started. Idempotent."""
        ...


def tool_schema(name: str, description: str, parameters: JsonSchema) -> dict[str, Any]:
    """One tool as an OpenAI request defines it."""
    return {"type": "function", "function": {"name": name, "description": description, "parameters": dict(parameters)}}


def tool_schemas(tools: Mapping[str, Tool]) -> list[dict[str, Any]]:
    """The tools as the `tools` of an OpenAI request, which chat templates render too."""
    return [tool_schema(tool.name, tool.description, tool.parameters) for tool in tools.values()]


async def call_tool(call: ToolCall, tools: Mapping[str, Tool], sandbox: Sandbox, limits: ToolLimits) -> Observation:
    """Check a call against its tool's schema and make it. Raises SandboxError only."""
    tool = tools.get(call.name)
    if tool is None:
        return limits.say(f"unknown tool {call.name}"[:80], f"There is no tool {call.name[:80]!r}. Tools: {', '.join(tools)}.")
    complaint = complaint_about(call, tool.parameters)
    if complaint is not None:
        return limits.say(complaint, f"The call of {tool.name} was not made: {complaint}.")
    arguments = {name: value.encode("utf-8", "replace").decode() for name, value in call.arguments.items()}
    try:
        observation = await tool(sandbox, arguments, limits)
    except SandboxError:
        raise
    except OSError as error:  # what the sandbox's files say about a path: the agent's business
        reason = (error.strerror or type(error).__name__).lower()
        return limits.say(reason, f"{tool.name} failed: {reason}.")
    return Observation(cut_middle(observation.text, limits.max_observation_bytes), observation.done)


def complaint_about(call: ToolCall, parameters: JsonSchema) -> str | None:
    """Why a call does not satisfy a schema, in a few words; None when it does."""
    properties: Mapping[str, Any] = parameters["properties"]
    if call.repeated:
        return f"repeated parameter {call.repeated[0][:40]}"
    for name, value in call.arguments.items():
        if name not in properties:
            return f"unknown parameter {name[:40]}"
        schema = properties[name]
        if schema["type"] == "string" and name in call.json_values:
            return f"{name} must be text"
        if "enum" in schema and value not in schema["enum"]:
            return f"{name} must be one of {', '.join(schema['enum'])}"
        if schema["type"] == "integer" and not _INTEGER.fullmatch(value.strip()[:20]):
            return f"{name} must be an integer"
        if schema["type"] == "array" and integer_pair(value) is None:
            return f"{name} must be two integers, like [1, 20]"
    missing = [name for name in parameters["required"] if name not in call.arguments]
    return f"missing parameter {missing[0]}" if missing else None


def integer_pair(value: str) -> tuple[int, int] | None:
    """
    >>> integer_pair("[3, -1]"), integer_pair("3"), integer_pair("3,4,5")
    ((3, -1), None, None)
    """
    found = _PAIR.fullmatch("".join(value[:40].split()))
    return None if found is None or len(value) > 40 else (int(found[1]), int(found[2]))


def cut_middle(text: str, max_bytes: int) -> str:
    r"""The text, or its head and tail with a note between when it is longer than max_bytes in UTF-8.

    >>> cut_middle("abcdefghij" * 10, 60)
    'abcdefghijabcde\n[... 70 bytes left out ...]\nfghijabcdefghij'
    """
    data = text.encode("utf-8", "replace")
    if len(data) <= max_bytes:
        return data.decode("utf-8")
    room = max_bytes - len(f"\n[... {len(data)} bytes left out ...]\n")
    if room < 2:
        return data[:max_bytes].decode("utf-8", "ignore")
    head, tail = data[: room - room // 2].decode("utf-8", "ignore"), data[len(data) - room // 2 :].decode("utf-8", "ignore")
    left_out = len(data) - len(head.encode()) - len(tail.encode())
    return f"{head}\n[... {left_out} bytes left out ...]\n{tail}"
