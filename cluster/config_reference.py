"""docs/configuration.md from the dataclasses: `python -m cluster.config_reference > docs/configuration.md`."""

import ast
import dataclasses
import inspect
import itertools
import sys
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass
from typing import Any

from configs.run_config import RunConfig

HEAD = """\
# Every setting

Made by `python -m cluster.config_reference > docs/configuration.md`; a test holds it to the code. A setting is given as
`key=value` on the command line, or in a YAML file that holds only what differs: `swe-master grpo my.yaml grpo.group_size=4`.
Unknown keys fail with the nearest known one. `--print-config` prints what a run would use.
"""


@dataclass(frozen=True)
class Setting:
    """One key, its type and default as text, and its meaning."""

    key: str
    kind: str
    default: str
    meaning: str


def settings(config: type = RunConfig, prefix: str = "") -> Iterator[tuple[str, list[Setting]]]:
    """(section, its own settings) of a configuration class, then of those inside it, depth first."""
    kinds = typing.get_type_hints(config)
    meanings = field_docstrings(config)
    fields = dataclasses.fields(config)
    inner = [field for field in fields if dataclasses.is_dataclass(kinds[field.name])]
    own = [field for field in fields if field not in inner]
    if own:
        rows = [Setting(prefix + f.name, _kind(kinds[f.name]), _default(f), meanings.get(f.name, "")) for f in own]
        yield prefix.removesuffix("."), rows
    for field in inner:
        yield from settings(kinds[field.name], f"{prefix}{field.name}.")


def field_docstrings(config: type) -> dict[str, str]:
    """The string under each field of a class, in one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(config)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = {}
    for field, below in itertools.pairwise(body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def reference() -> str:
    """The whole page."""
    parts = [HEAD]
    for section, rows in settings():
        table = ["| key | type | default | meaning |", "|---|---|---|---|"]
        table += [f"| `{row.key}` | {row.kind} | {row.default} | {_cell(row.meaning)} |" for row in rows]
        parts.append(f"## {section or 'run'}\n\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


def _kind(kind: Any) -> str:
    name = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
    return name.replace("typing.", "").replace("|", "or")


def _default(field: "Field[Any]") -> str:
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    if value == "":
        return "empty"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
