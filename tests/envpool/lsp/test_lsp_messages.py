"""Frames, positions, symbols and the folder that a mirror writes to: parsers that meet whatever a server or sandbox sends."""

import base64
import contextlib
import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpool.lsp.lsp_documents import file_uri, uri_path
from envpool.lsp.lsp_errors import LspRefusalError, MirrorError, ServerGarbageError
from envpool.lsp.lsp_messages import MessageReader, encode_message
from envpool.lsp.lsp_positions import find_position, lines_of, split_lines, symbol_columns, utf16_length
from envpool.lsp.lsp_symbols import Symbol, enclosing, outline, parse_symbols
from envpool.lsp.mirror_folder import MirrorFolder, is_plain
from envpool.lsp.sandbox_mirror import parse_listing, unpack

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(st.sampled_from(["id", "method", "params"]), json_values), max_size=4), st.integers(1, 9))
def test_messages_survive_any_cut(messages: list[dict[str, object]], size: int) -> None:
    data = b"".join(map(encode_message, messages))
    reader = MessageReader()
    found = [message for first in range(0, len(data), size) for message in reader.feed(data[first : first + size])]
    assert found == [{"jsonrpc": "2.0", **message} for message in messages]


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_garbage_is_one_error_or_nothing_yet(data: bytes) -> None:
    reader = MessageReader()
    with contextlib.suppress(ServerGarbageError):
        assert all(isinstance(message, dict) for message in reader.feed(data))


def test_more_header_fields_are_fine() -> None:
    data = b"Content-Type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    assert MessageReader().feed(data) == [{}]


@pytest.mark.parametrize(
    ("line", "symbol", "columns"),
    [
        ("def area(self):", "area", [4]),
        ("subarea = area2 + area", "area", [18]),
        ("# area of area", "area", [2, 10]),
        ('print("area", area)', "area", [14, 7]),
        ("x->area(y.area)", "x->area", [3]),
        ("std::vector<Square> all", "std::vector", [5]),
        ("const $el = el;", "el", [12]),
        ("größe = 1", "größe", [0]),
        ("a.b.c", "a . b", [2]),
        ("area", "", []),
        ("area", ".", []),
        ("area", "(", []),
        ("x" * 20_000, "x", []),
    ],
)
def test_symbols_are_found_as_words(line: str, symbol: str, columns: list[int]) -> None:
    assert symbol_columns(line, symbol) == columns


@given(st.text(max_size=60), st.text(max_size=12))
def test_a_symbol_that_is_found_stands_there(line: str, symbol: str) -> None:
    for column in symbol_columns(line, symbol):
        assert line[column] in symbol


def test_positions_count_utf16_units() -> None:
    assert find_position('a = "𝒳𝒴"; b = a', "f.py", 1, "b") == ({"line": 0, "character": 12}, 1)
    assert utf16_length("𝒳ü") == 3
    assert split_lines("a\rb\r\nc") == ["a", "b", "c"]
    with pytest.raises(LspRefusalError, match=r"line 3 does not exist: f\.py has 2 lines"):
        find_position("a\nb", "f.py", 3, "a")


def span(first: int, last: int, end: int = 5) -> dict[str, dict[str, int]]:
    return {"start": {"line": first, "character": 0}, "end": {"line": last, "character": end}}


def test_ranges_count_from_one() -> None:
    assert lines_of(span(0, 4)) == (1, 5, 1)
    assert lines_of(span(0, 4, end=0)) == (1, 4, 1)
    for nonsense in (None, 5, {}, {"start": {}}, {"start": None, "end": None}):
        with pytest.raises(ServerGarbageError):
            lines_of(nonsense)


def test_symbols_nested_and_flat() -> None:
    method = {"name": "area", "kind": 6, "range": span(2, 3), "selectionRange": span(2, 2)}
    variable = {"name": "side", "kind": 13, "range": span(3, 3), "selectionRange": span(3, 3)}
    nested = [{"name": "Square", "kind": 5, "range": span(0, 5), "selectionRange": span(0, 0), "children": [method, variable]}]
    symbols = parse_symbols(nested)
    assert list(outline(symbols)) == ["class Square (lines 1 to 6)", "  method area (lines 3 to 4)"]
    assert enclosing(symbols, 4) == Symbol("area", "method", 3, 4, 3)
    found = enclosing(symbols, 6)
    assert found is not None
    assert found.name == "Square"
    assert enclosing(symbols, 9) is None
    flat = [{"name": "f", "kind": 12, "location": {"uri": "file:///a", "range": span(7, 9)}}]
    assert parse_symbols(flat) == (Symbol("f", "function", 8, 10, 8),)
    assert parse_symbols(None) == ()


@given(json_values)
def test_symbols_of_any_form_are_refused_or_read(value: object) -> None:
    with contextlib.suppress(ServerGarbageError):
        parse_symbols(value)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_uris_survive_a_round_trip(path: str) -> None:
    assert uri_path(file_uri(f"/{path.lstrip('/')}")) == f"/{path.lstrip('/')}"


class TestMirrorFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> MirrorFolder:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside/secret").write_text("secret")
        (tmp_path / "tree").mkdir()
        return MirrorFolder(tmp_path / "tree", "/testbed")

    def test_contents(self, folder: MirrorFolder) -> None:
        assert folder.write("a/b.py", b"one")
        assert not folder.write("a/b.py", b"one")
        assert folder.write("a/b.py", b"two")
        assert folder.read("/testbed/a/b.py", 100) == b"two"
        folder.link("c.py", "a/b.py")
        assert folder.resolved("c.py") == "a/b.py"
        assert folder.read("c.py", 2) == b"tw"
        folder.remove("a/b.py")
        folder.remove("a/b.py")
        assert os.listdir(folder.root) == ["c.py"]

    def test_a_list_that_lies_reaches_nothing(self, folder: MirrorFolder) -> None:
        """A symlink out of the tree, then files named as if they were below it."""
        outside = folder.root.parent / "outside"
        folder.link("door", str(outside))
        folder.link("way", "../outside")
        for path in ("door/secret", "way/secret", "../outside/secret", "/outside/secret", "door/../../outside/secret"):
            with pytest.raises(OSError):  # noqa: PT011 - which one does not matter
                folder.write(path, b"changed")
            with pytest.raises(OSError):  # noqa: PT011
                folder.link(path, "x")
            with pytest.raises(OSError):  # noqa: PT011
                folder.read(path, 10)
            with contextlib.suppress(OSError):
                folder.remove(path)
        assert (outside / "secret").read_text() == "secret"
        assert os.listdir(outside) == ["secret"]


@given(st.text(max_size=200))
def test_listings_are_read_or_refused(text: str) -> None:
    try:
        _, files = parse_listing(text)
    except ValueError:
        return
    assert all(map(is_plain, files))


def packed(files: dict[str, bytes], extra: tarfile.TarInfo | None = None) -> str:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        if extra is not None:
            archive.addfile(extra)
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return base64.b64encode(gzip.compress(data.getvalue())).decode()


def test_archives() -> None:
    link = tarfile.TarInfo("./link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    text = packed({"./a.py": b"one", "./b/c.py": b"", "big.py": b"x" * 100}, link)
    assert unpack(text, 1 << 20, 50) == {"a.py": b"one", "b/c.py": b""}
    with pytest.raises(MirrorError, match="larger than 1 MiB"):
        unpack(packed({"bomb.py": bytes(5 << 20)}), 1 << 20, 10 << 20)
    with pytest.raises(MirrorError, match="broken"):
        unpack("no archive!", 1 << 20, 50)


@given(st.text(max_size=100))
def test_archives_of_any_text_are_refused_or_read(text: str) -> None:
    with contextlib.suppress(MirrorError):
        unpack(text, 1 << 16, 1 << 10)
