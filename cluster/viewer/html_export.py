"""A run as one HTML file: the viewer's own pages with the answers of its API inside. Needs no server and no network."""

import base64
import gzip
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from cluster.run_folder import RunFolderError, write_atomically
from cluster.viewer.viewer_answers import AnswerError, RunLibrary
from cluster.viewer.web_server import JSON_OPTIONS, STATIC

MAX_BYTES = 64 << 20
"""Of packed answers. What does not fit is left out, and said."""
_SCRIPT = re.compile(r'<script src="/static/([a-z_]+\.js)"></script>\n')
_STYLE = '<link rel="stylesheet" href="/static/viewer.css">\n'
_ICON = '<link rel="icon" href="/static/icon.svg">\n'


def export_html(path: Path, to: Path, max_bytes: int = MAX_BYTES) -> str:
    """Write the run in `path` to `to`; returns a line that says what is in it.

    Every list and curve is carried; contents of trajectories, in the order of the index, as far as `max_bytes` allows, tokens
    after all texts. Raises RunFolderError for a folder of several runs, OSError.
    """
    library = RunLibrary(path)
    names = [row["name"] for row in library.runs()]
    if len(names) != 1:
        raise RunFolderError(f"{path} holds {len(names)} runs; --export takes one of them")
    table = library.run(names[0]).index.table()
    answers: dict[str, str] = {}
    left = max_bytes
    counts = {"texts": 0, "tokens": 0}
    for kind, words in _paths(names[0], table, [task["instance_id"] for task in library.run(names[0]).tasks()]):
        try:
            packed = pack(library.answer(words))
        except AnswerError:
            continue  # the page itself says that it cannot be read
        if kind and len(packed) > left:
            break
        left -= len(packed)
        answers["/".join(_quoted(word) for word in words)] = packed
        if kind:
            counts[kind] += 1
    write_atomically(to.absolute(), page(answers).encode())
    total = len(table["rows"]["row"])
    line = f"{to}: {total} trajectories listed, {counts['texts']} with their contents, {counts['tokens']} with their tokens"
    return f"{line}, {to.stat().st_size / 2**20:.1f} MiB"


def _paths(name: str, table: dict[str, Any], tasks: list[str]) -> Iterator[tuple[str, list[str]]]:
    """("" for what must be there, "texts" or "tokens"; words of the API path) in the order they are packed."""
    for kind in ("run", "index", "tasks", "metrics"):
        yield "", [kind, name]
    yield "", ["runs"]
    yield from (("", ["task", name, instance_id]) for instance_id in tasks)
    rows, groups = table["rows"], table["groups"]
    for shard, first, members in zip(groups["shard"], groups["first"], groups["members"], strict=True):
        if members:
            words = [*table["shards"][shard].split("/"), str(rows["row"][first]), str(members)]
            yield "", ["spans", name, *words]
    for kind, answer in (("texts", "trajectory"), ("tokens", "tokens")):
        for shard, row in zip(rows["shard"], rows["row"], strict=True):
            yield kind, [answer, name, *table["shards"][shard].split("/"), str(row)]


def pack(answer: Any) -> str:
    """JSON, gzip, base64: safe inside a script element."""
    return base64.b64encode(gzip.compress(orjson.dumps(answer, option=JSON_OPTIONS), 6, mtime=0)).decode()


def page(answers: dict[str, str]) -> str:
    """index.html with its style, scripts and data inside, and a policy that allows exactly these and no connection."""
    source = (STATIC / "index.html").read_text(encoding="utf-8")
    script = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in _SCRIPT.findall(source))
    style = (STATIC / "viewer.css").read_text(encoding="utf-8")
    data = orjson.dumps({"answers": answers}).decode().replace("<", "\\u003c")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'"
    )
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{style}</style>\n'
    body = f'<script type="application/json" id="exported">{data}</script>\n<script>{script}</script>\n'
    bare = _SCRIPT.sub("", source.replace(_ICON, "")).replace(_STYLE, head)
    return bare.replace("</body>", f"{body}</body>")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _quoted(word: str) -> str:
    """As encodeURIComponent writes it."""
    return quote(word, safe="!'()*-._~")
