"""What the text of a C++ file says of a line's surroundings, held against clangd."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpool.lsp.cpp_outline import enclosing_in_text
from envpool.lsp.lsp_symbols import BODIES, Symbol
from envpool.sandbox_parts.image_cache import FolderImages
from tests.envpool.lsp.lsp_setting import need_server, opened, usable_config

HEADER = r"""#pragma once
#define WRAP(x) do { x; } while (0) // not /* a comment
#define LINK "http://x" \
  "{"
#define STATIC static
#define CASE(a, b) void a##b()
namespace shapes {
enum class Kind { kA, kB };
template <typename T>
T twice(T x) {
  return x + x;
}
struct Part {
  int side{3};
  Part() : side{1}, other(2) {
  }
  ~Part() {}
  explicit Part(int s) : side(s) {}
  template <typename T> T get() const { return T(side); }
  virtual int area() const noexcept { return side * side; }
  Part &operator+=(const Part &o) { side += o.side; return *this; }
  int other;
};
static inline int
value(int count) {
  auto f = [&](int x) { return x; };
  return f(count);
}
// { not code }
const char *text() { return R"x({ )" } )x" "\"{"; }
char brace() { return '{'; }
long big() { return 1'000'000; }
int one() { return 1; } int two() { return 2; }
CASE(some, thing) {
}
STATIC int hidden() {
  return 1;
}
int Part_total(const Part &p) { return p.area(); }
extern "C" {
int c_function(void) { return 1; }
}
class Child final : public Part {
 public:
  int area() const noexcept override;
 private:
  int table[2] = {1, 2};
};
int Child::area() const noexcept {
  return 1;
}
union Both { int a; float b; };
const int TABLE[] = {
  1, 2,
};
}  // namespace shapes
"""
KNOWN = (
    "struct Part {",
    "virtual int area",
    "value(int count)",
    "return f(count)",
    "int Part_total",
    "c_function",
    "class Child",
)
UNSURE = ("T twice", "Part() :", "~Part", "operator+=", "int Child::area", "int one()", "CASE(some", "hidden", "TABLE[]", "union")


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(HEADER.split("\n"), 1) if text in line)


def said(symbol: Symbol) -> tuple[str, str, int, int]:
    return symbol.kind, symbol.name, symbol.first, symbol.last


@pytest.mark.timeout(300)
async def test_what_is_certain_is_what_clangd_says(images: FolderImages) -> None:
    need_server("cpp")
    async with opened(images, {"a.hpp": HEADER, "a.cpp": '#include "a.hpp"\n'}, usable_config()) as setting:
        told = await setting.ask("get_document_symbols", file_path="a.hpp")
    rows = re.findall(r"^ *(\w+) (\S+) \(lines? (\d+)(?: to (\d+))?\)$", told, re.MULTILINE)
    listed = [(kind, name, int(first), int(last or first)) for kind, name, first, last in rows if kind in BODIES]
    answered = 0
    for line in range(1, len(HEADER.split("\n")) + 1):
        found = enclosing_in_text(HEADER, line)
        if found is not None:
            around = [row for row in listed if row[2] <= line <= row[3]]
            assert [said(found)] == [min(around, key=lambda row: row[3] - row[2])], line
            answered += 1
    assert answered >= 12


def test_known_and_unsure_places() -> None:
    assert [said(found) if (found := enclosing_in_text(HEADER, line_of(text))) else None for text in KNOWN[:3]] == [
        ("class", "Part", line_of("struct Part"), line_of("int other") + 1),
        ("method", "area", line_of("virtual int area"), line_of("virtual int area")),
        ("function", "value", line_of("static inline int"), line_of("return f(count)") + 1),
    ]
    assert all(enclosing_in_text(HEADER, line_of(text)) for text in KNOWN)
    assert [text for text in UNSURE if enclosing_in_text(HEADER, line_of(text))] == []


@pytest.mark.parametrize(
    "text",
    [
        "#if A\nint f() {\n#else\nint f(int) {\n#endif\n}\n",
        "int f() {\n",
        "int f() {\n}\n}\n",
        "int f();\n",
        "int f(int a = int{3}) {\n}\n",
        "int f() {\n}\n" + " " * 200_000,
    ],
    ids=["branches", "open", "closed twice", "declaration", "braces in arguments", "long"],
)
def test_not_certain(text: str) -> None:
    assert [enclosing_in_text(text, line) for line in (1, 2, 3)] == [None] * 3


PIECES = ["{", "}", "(", ")", ";", "\n", "/*", "*/", "//", '"', "'", "\\", "#", 'R"(', ')"', "int f()", "class A", ":", "x"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), st.integers(0, 9))
def test_any_text_is_read(text: str, line: int) -> None:
    found = enclosing_in_text(text, line)
    assert found is None or found.first <= line <= found.last


@pytest.mark.parametrize("piece", ["/*", '"\\', '\\"', 'R"(', "#/*", "'", "{", "(;", "int f() {"])
def test_time_is_linear(piece: str) -> None:
    began = time.process_time()
    enclosing_in_text(piece * (200_000 // len(piece)), 1)
    assert time.process_time() - began < 20  # CPU seconds; a square of the length takes hours
