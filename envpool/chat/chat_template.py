"""A model folder's Jinja chat template: which layout it is, found by rendering it, and the template that says what we render.

A template that renders a few short conversations otherwise than the renderer is refused: training and serving would show the
model different text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from envpool.action_format import ToolCall
from envpool.chat.chat_layout import IM_END, IM_START, TOOLS_BLOCK, ChatLayout, opening_blocks
from envpool.policy import Message

Json = Mapping[str, Any]
_GENERATION, _END_GENERATION = re.compile(r"\{%(-?)\s*generation\s*(-?)%\}"), re.compile(r"\{%(-?)\s*endgeneration\s*(-?)%\}")
"""Hugging Face's marks of what is trained, in templates made for training."""
_SYSTEM, _USER, _SAID = Message("system", "S"), Message("user", "U"), Message("assistant", "A")
_ANSWER = Message("tool", "O")
_CALLED = Message("assistant", "A", (ToolCall("f", {"x": "ü", "n": "3"}, json_values=frozenset({"n"})),))
_TOOL = {"type": "function", "function": {"name": "f", "description": "Does ü.", "parameters": {"type": "object"}}}
_PLAIN_PROBES: tuple[tuple[Message, ...], ...] = (
    (_USER,),
    (_SYSTEM, _USER),
    (_SYSTEM, _USER, _SAID, _ANSWER),
    (_SYSTEM, _SYSTEM, _USER, _SAID, _USER, _SAID, _USER),
)
_NATIVE_PROBES: tuple[tuple[Message, ...], ...] = (
    (_USER,),
    (_SYSTEM, _USER, _CALLED, _ANSWER, _ANSWER),
)


def read_template(model_dir: Path) -> str | None:
    """The chat template of a model folder; None when it has none. Raises ValueError for a file that cannot be read."""
    path = model_dir / "chat_template.jinja"
    if path.is_file():
        return path.read_text()
    path = model_dir / "tokenizer_config.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text()).get("chat_template")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    if isinstance(found, list):  # several, by name
        found = next((one.get("template") for one in found if isinstance(one, dict) and one.get("name") == "default"), None)
    if found is not None and not isinstance(found, str):
        raise ValueError(f"cannot read {path}: its chat_template is no text")
    return found


def layout_of(template: str) -> ChatLayout:
    """The layout that a template speaks. Raises ValueError when it renders a conversation otherwise than the renderer."""
    try:
        layout = ChatLayout(default_system=_default_system(render_template(template, [_USER])), shows_tools=False)
        for probe in _PLAIN_PROBES:
            _compare(template, probe, (), layout)
    except TemplateError as error:
        raise ValueError(f"the chat template cannot be rendered: {error}") from error
    try:
        for probe in _NATIVE_PROBES:
            _compare(template, probe, (_TOOL,), layout)
    except (TemplateError, ValueError):
        return layout
    return ChatLayout(layout.default_system)


def render_template(template: str, messages: Sequence[Message], tools: Sequence[Json] = ()) -> str:
    """What Hugging Face's `apply_chat_template` makes of the messages, with the generation prompt. Raises TemplateError."""
    return _compiled(template).render(
        messages=[template_message(message) for message in messages], tools=list(tools) or None, add_generation_prompt=True
    )


def template_message(message: Message) -> dict[str, Any]:
    """A message as chat templates take it. `reasoning_content` is empty: reasoning stays in the text, which templates that
    know the field would otherwise take out."""
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.role == "assistant":
        found["reasoning_content"] = ""
    if message.tool_calls:
        found["tool_calls"] = [
            {"type": "function", "id": call.call_id, "function": {"name": call.name, "arguments": call.json_arguments()}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        found["tool_call_id"] = message.tool_call_id
    return found


def jinja_template(layout: ChatLayout) -> str:
    """The template that renders what the renderer renders, for the folder of a model that was trained with it."""
    return _JINJA.replace("DEFAULT", json.dumps(layout.default_system)).replace("TOOLS", _tools_expression())


@lru_cache(maxsize=8)
def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = _to_json
    return environment.from_string(_GENERATION.sub(r"{%\1 if true \2%}", _END_GENERATION.sub(r"{%\1 endif \2%}", template)))


def _default_system(rendered: str) -> str:
    """What stands in a system block before the first user block; "" when there is none."""
    head, tail = f"{IM_START}system\n", f"{IM_END}\n{IM_START}user\n"
    return rendered[len(head) : rendered.index(tail)] if rendered.startswith(head) and tail in rendered else ""


def _compare(template: str, probe: Sequence[Message], tools: Sequence[Json], layout: ChatLayout) -> None:
    ours = "".join(block.text for block in opening_blocks(probe, tools, ChatLayout(layout.default_system)))
    ours += f"{IM_START}assistant\n"
    theirs = render_template(template, probe, tools)
    if theirs != ours:
        at = next((at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
        raise ValueError(
            f"the chat template is none this renderer speaks: after {ours[max(at - 30, 0) : at]!r} it says "
            f"{theirs[at : at + 30]!r} and not {ours[at : at + 30]!r}"
        )


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _tools_expression() -> str:
    """The tools' text as a Jinja expression, the tools one a line."""
    before, after = TOOLS_BLOCK.split("{tools}")
    lines = "{%- for tool in tools %}{{- ('' if loop.first else '\\n') + (tool | tojson) }}{%- endfor %}"
    return f"{{{{- {json.dumps(before.format())} }}}}{lines}{{{{- {json.dumps(after.format())} }}}}"


_JINJA = """\
{%- set given = messages and messages[0].role == 'system' %}
{%- set system = messages[0].content if given else DEFAULT %}
{%- if given or system or tools %}
    {{- '<|im_start|>system\\n' + system }}
    {%- if tools %}
        {{- '\\n\\n' if given or system else '' }}
        TOOLS
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user' if loop.first or loop.previtem.role != 'tool' else '' }}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {{- '<|im_end|>\\n' if loop.last or loop.nextitem.role != 'tool' else '' }}
    {%- elif not (given and loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
        {%- for call in message.tool_calls or [] %}
            {%- set function = call.function or call %}
            {{- '\\n' if message.content or not loop.first else '' }}
            {{- '<tool_call>\\n{"name": "' + function.name + '", "arguments": ' }}
            {{- function.arguments if function.arguments is string else (function.arguments | tojson) }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
