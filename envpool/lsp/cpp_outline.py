"""The C or C++ function or class around a line, where the text alone says for certain what clangd would say of it.

Macros, templates, constructors, operators and all else that needs a compiler give None; the language server is then asked.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from envpool.lsp.lsp_symbols import Symbol

MAX_CHARS = 200_000
_COMMENT = r"//(?:\\\n|[^\n])*+|/\*.*?(?:\*/|\Z)"
_STRING = r'"(?:[^"\\\n]|\\.)*+"?'
_TOKEN = re.compile(
    rf"""(?P<skip>\s+|{_COMMENT})|(?P<directive>\#(?:\\\n|{_COMMENT}|{_STRING}|[^\n])*+)"""
    r"""|(?P<text>(?:u8|[uUL])?R"(?P<end>[^()\\\s"]{0,16})\(.*?(?:\)(?P=end)"|\Z)"""
    rf"""|(?:u8|[uUL])?{_STRING}|'(?:[^'\\\n]|\\.)*+'?)"""
    r"""|(?P<number>\.?\d(?:[\w.]|'\w)*+)|(?P<word>[A-Za-z_]\w*+)|(?P<sign>::|.)""",
    re.DOTALL,
)
_BRANCH = re.compile(r"#\s*(?:else|elif)")
_TYPE = re.compile(r"[A-Za-z_]\w*|::|[<>,*&]|\d+")
_NOT_IN_HEADS = frozenset(re.findall(r"\w+", "template operator friend typedef enum class struct union new return"))
_AFTER_ARGUMENTS = frozenset({"const", "noexcept", "override", "final", "&"})
_ACCESS = ("public", "private", "protected")


@dataclass(frozen=True)
class _Token:
    text: str
    line: int


@dataclass
class _Scope:
    """An open brace. `kind` is "" for what is unsure, "open" for namespaces and the file itself, else the symbol's."""

    kind: str
    name: str = ""
    head: tuple[_Token, ...] = ()
    alone: bool = True
    brace: int = 0
    body_first: int = 0


def enclosing_in_text(text: str, line: int) -> Symbol | None:
    r"""The innermost function or class around a line (from 1); None where that is not certain.

    >>> enclosing_in_text("int f(int a) {\n  return a;\n}\n", 2)
    Symbol(name='f', kind='function', first=1, last=3, name_line=1, children=())
    >>> enclosing_in_text("int f(int a);\n", 1), enclosing_in_text("TEST(f, g) {\n}\n", 1)
    (None, None)
    """
    if len(text) > MAX_CHARS:
        return None
    tokens = list(_tokens(text))
    if any(_BRANCH.match(token.text) for token in tokens):  # both branches may open the same brace
        return None
    return _Reader([token for token in tokens if not token.text.startswith("#")], line).found()


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for found in _TOKEN.finditer(text):
        if found["skip"] is None:
            yield _Token('""' if found["text"] is not None else found[0], line)
        line += found[0].count("\n")


class _Reader:
    """One pass over the tokens. `head` is what was read since the last declaration's end, in the innermost scope."""

    def __init__(self, tokens: Sequence[_Token], line: int) -> None:
        self.tokens, self.line = tokens, line
        self.scopes = [_Scope("open")]
        self.head: list[_Token] = []
        self.around: list[Symbol | None] = []

    def found(self) -> Symbol | None:
        for index, token in enumerate(self.tokens):
            if token.text == "{":
                self.open(index)
            elif token.text == "}":
                if len(self.scopes) == 1:
                    return None
                self.close(index)
            elif self.ends_head(token.text):
                self.head = []
            elif self.scopes[-1].kind in ("open", "class"):
                self.head.append(token)
        return self.around[0] if len(self.scopes) == 1 and len(self.around) == 1 else None

    def ends_head(self, text: str) -> bool:
        return text == ";" or (text == ":" and len(self.head) == 1 and self.head[0].text in _ACCESS)

    def open(self, index: int) -> None:
        outer, head = self.scopes[-1], self.head
        kind, name = ("", "") if outer.kind not in ("open", "class") else _declared(head, outer)
        first = head[0] if head else self.tokens[index]
        at = index - len(head)
        alone = at <= 0 or self.tokens[at - 1].line < first.line or not head
        body_first = self.tokens[index + 1].line if index + 1 < len(self.tokens) else 0
        self.scopes.append(_Scope(kind, name, tuple(head), alone, self.tokens[index].line, body_first))
        self.head = []

    def close(self, index: int) -> None:
        scope, last = self.scopes.pop(), self.tokens[index].line
        self.head = []
        if scope.kind == "open" or self.scopes[-1].kind not in ("open", "class"):
            return
        first = scope.head[0].line if scope.head else scope.brace
        if not first <= self.line <= last:
            return
        after = self.tokens[index + 1] if index + 1 < len(self.tokens) else _Token("", last + 1)
        if after.text == ";" and scope.kind == "class":
            after = self.tokens[index + 2] if index + 2 < len(self.tokens) else _Token("", last + 1)
        certain = scope.kind != "" and scope.alone and after.line > last
        if scope.kind == "class":
            if self.around:  # one of its functions
                return
            certain = certain and self.line < scope.body_first  # a line of its body may hold another symbol
        name_line = next((token.line for token in scope.head if token.text == scope.name), first)
        self.around.append(Symbol(scope.name, scope.kind, first, last, name_line) if certain else None)


def _declared(head: Sequence[_Token], outer: _Scope) -> tuple[str, str]:
    """Kind and name of what a head and its brace begin."""
    words = [token.text for token in head]
    if not words:
        return "", ""
    if words[0] == "namespace" or words[:2] == ["inline", "namespace"] or words == ["extern", '""']:
        return "open", ""
    if words[0] in ("class", "struct", "union"):
        plain = len(words) > 1 and words[1].isidentifier() and (len(words) == 2 or words[2] in (":", "final"))
        return ("class", words[1]) if plain and not {"(", "="} & set(words) else ("", "")
    return _function(words, outer)


def _function(words: list[str], outer: _Scope) -> tuple[str, str]:
    opening = words.index("(") if "(" in words else 0
    if opening < 2 or _NOT_IN_HEADS & set(words[:opening]):
        return "", ""
    depth = 0
    for closing in range(opening, len(words)):
        depth += (words[closing] == "(") - (words[closing] == ")")
        if not depth:
            break
    before, name = words[: opening - 1], words[opening - 1]
    sure = (
        depth == 0
        and _AFTER_ARGUMENTS.issuperset(words[closing + 1 :])
        and all(_TYPE.fullmatch(word) for word in before)
        and before[-1] != "::"  # of a class or of a namespace
        and name.isidentifier()
        and name != outer.name
        and not any(word.isupper() and len(word) > 1 for word in (name, before[0]))  # a macro, by custom
    )
    if not sure:
        return "", ""
    return ("method" if outer.kind == "class" else "function"), name
