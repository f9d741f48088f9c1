"""Tool calls as text: `<function=NAME>`, one `<parameter=KEY>VALUE</parameter>` per argument, `</function>`.

The first complete block of a completion counts; what follows it is ignored. Values are kept verbatim, with two exceptions:
a value that stands on lines of its own (newline at both ends) loses that one pair of newlines, and a closing parameter tag
inside a value is written with a backslash, `<\\/parameter>`.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

NAME = r"[A-Za-z_][A-Za-z0-9_.-]*+"
"""What can name a function or a parameter."""
_OPEN = re.compile(rf"<function=\s*+({NAME})\s*+>")
_INSIDE = re.compile(rf"<parameter=\s*+(?P<key>{NAME})\s*+(?P<sign>[>=])|(?P<close></function>)|<function=\s*+{NAME}\s*+>")
_VALID_NAME = re.compile(NAME)
_PARAMETER_END = "</parameter>"
_FUNCTION_END = "</function>"
_ESCAPED_END = re.compile(r"<\\(\\*+)/parameter>")
_UNESCAPED_END = re.compile(r"<(\\*+)/parameter>")


@dataclass(frozen=True)
class ToolCall:
    """One call, values as text. `repeated` names parameters that were given more than once (the first value is kept);
    `json_values` those whose text is JSON of another type than string (native calls are typed); `call_id` is what the answer
    to a native call refers to."""

    name: str
    arguments: dict[str, str]
    repeated: tuple[str, ...] = field(default=(), compare=False)
    json_values: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    call_id: str = field(default="", compare=False, repr=False)

    def json_arguments(self) -> dict[str, Any]:
        """The arguments as JSON values.

        >>> ToolCall("view", {"path": "3", "line": "3"}, json_values=frozenset({"line"})).json_arguments()
        {'path': '3', 'line': 3}
        """
        return {name: json.loads(value) if name in self.json_values else value for name, value in self.arguments.items()}


def parse_action(text: str) -> tuple[str, ToolCall] | None:
    r"""The thought (all text before the call) and the first call; None when there is no complete one. Linear, never raises.

    >>> parse_action("look: <function=execute_bash>\n<parameter=command>ls</parameter>\n</function>")
    ('look: ', ToolCall(name='execute_bash', arguments={'command': 'ls'}, repeated=()))
    """
    opening = _OPEN.search(text)
    while opening is not None:
        arguments: dict[str, str] = {}
        repeated: list[str] = []
        position = opening.end()
        while True:
            found = _INSIDE.search(text, position)
            if found is None:
                return None
            if found["close"]:
                call = ToolCall(opening[1], arguments, tuple(dict.fromkeys(repeated)))
                return text[: opening.start()], call
            if found["key"] is None:  # another call opens: the earlier tag was only talked about
                opening = _OPEN.match(text, found.start())
                break
            end = _value_end(text, found.end())
            if end is None:
                return None
            raw = text[found.end() : end]
            if found["sign"] == "=":
                raw = repair_equals_for_bracket(raw)
            if found["key"] in arguments:
                repeated.append(found["key"])
            else:
                arguments[found["key"]] = _ESCAPED_END.sub(r"<\1/parameter>", strip_own_lines(raw))
            position = end + len(_PARAMETER_END) if text.startswith(_PARAMETER_END, end) else end
    return None


def render_action(call: ToolCall) -> str:
    r"""The canonical text of a call; `parse_action` reads it back. Raises ValueError for a name that is not an identifier.

    >>> render_action(ToolCall("execute_bash", {"command": "ls"}))
    '<function=execute_bash>\n<parameter=command>ls</parameter>\n</function>'
    """
    for name in (call.name, *call.arguments):
        if not _VALID_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a function or parameter")
    lines = [f"<parameter={key}>{_render_value(value)}{_PARAMETER_END}\n" for key, value in call.arguments.items()]
    return f"<function={call.name}>\n{''.join(lines)}{_FUNCTION_END}"


def strip_own_lines(value: str) -> str:
    r"""Take off the newlines around a value that was written on lines of its own.

    >>> strip_own_lines("\nls\n"), strip_own_lines("x = 1\n")
    ('ls', 'x = 1\n')
    """
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == "\n" else value


def repair_equals_for_bracket(value: str) -> str:
    """Repair `<parameter=command=view</parameter>` and `<parameter=command=view></parameter>`: `=` was written for `>`.

    >>> repair_equals_for_bracket("view>"), repair_equals_for_bracket(">view"), repair_equals_for_bracket("view")
    ('view', 'view', 'view')
    """
    return value.removeprefix(">") if value.startswith(">") else value.removesuffix(">")


def _value_end(text: str, start: int) -> int | None:
    """Where a value ends. Repair: a value without closing tag ends at the function's closing tag."""
    end = text.find(_PARAMETER_END, start)
    if end < 0:
        end = text.find(_FUNCTION_END, start)
    return None if end < 0 else end


def _render_value(value: str) -> str:
    escaped = _UNESCAPED_END.sub(r"<\\\1/parameter>", value)
    return f"\n{escaped}\n" if strip_own_lines(escaped) != escaped else escaped
