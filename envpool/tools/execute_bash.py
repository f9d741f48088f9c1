"""Run a command in the sandbox's persistent shell."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from envpool.sandbox import ExecResult, Sandbox
from envpool.tool import JsonSchema, Observation, ToolLimits

MAX_LINES = 80
"""Longer output shows its first and last half of that many lines (SWE-Master's observation format)."""
MAX_COLLECTED_BYTES = 262_144
"""What is fetched from the sandbox before it is cut for the agent."""
_TERMINAL_CODES = re.compile(r"\x1b\[[0-?]{0,32}[ -/]{0,8}[@-~]|\x1b\][^\x07\x1b\n]{0,256}(?:\x07|\x1b\\)|\r(?=\n)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

_PARAMETERS: JsonSchema = {
    "type": "object",
    "properties": {"command": {"type": "string", "description": "The shell command; several may be joined with && or ;."}},
    "required": ["command"],
}


@dataclass(frozen=True)
class ExecuteBash:
    """One command; working directory and variables persist between calls."""

    name: str = "execute_bash"
    description: str = (
        "Run a shell command in the repository. The working directory and variables are kept between calls. Commands get "
        "no input and are killed at a time limit. Long output is cut in the middle."
    )
    parameters: JsonSchema = field(default_factory=lambda: _PARAMETERS)

    async def __call__(self, sandbox: Sandbox, arguments: Mapping[str, str], limits: ToolLimits) -> Observation:
        command = arguments["command"]
        if not command.strip() or "\0" in command:
            return limits.say("empty command", "Nothing was run: the command is empty or holds a NUL byte.")
        result = await sandbox.run(command, limits.timeout_s, max_output_bytes=MAX_COLLECTED_BYTES)
        return Observation(compact_result(result) if limits.compact else full_result(result, limits.timeout_s))


def compact_result(result: ExecResult) -> str:
    r"""
    >>> compact_result(ExecResult(1, "failed area\n", False, False, 0.1)), compact_result(ExecResult(0, "", False, False, 0.1))
    ('failed area\nexit 1', '')
    """
    ending = "timeout" if result.timed_out else f"exit {result.exit_code}" if result.exit_code else ""
    return "\n".join(part for part in (readable(result.output).rstrip(), ending) if part)


def full_result(result: ExecResult, timeout_s: float) -> str:
    """Exit-code line, tool line, output."""
    status = f"Exit code: {result.exit_code}"
    if result.timed_out:
        status += f" (killed: it ran longer than {timeout_s:g} s)"
    return f"{status}\nOutput of execute_bash:\n{cut_lines(readable(result.output))}"


def cut_lines(text: str, max_lines: int = MAX_LINES) -> str:
    """The text, or its first and last max_lines / 2 lines with a note between.

    >>> cut_lines("a b c d e".replace(" ", chr(10)), 4).split(chr(10))
    ['a', 'b', '[... 1 lines left out ...]', 'd', 'e']
    """
    lines = text.removesuffix("\n").split("\n")
    if len(lines) <= max_lines:
        return text
    half = max_lines // 2
    return "\n".join([*lines[:half], f"[... {len(lines) - 2 * half} lines left out ...]", *lines[-half:]])


def readable(output: str) -> str:
    r"""Output without terminal colours, window titles and carriage returns at line ends; other control characters spelled out.

    >>> readable("\x1b[31mred\x1b[0m \x07\r\n")
    'red \\x07\n'
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", _TERMINAL_CODES.sub("", output))
