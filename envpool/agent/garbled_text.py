"""Is a completion text that anybody would write? A policy that falls apart mixes scripts, floods symbols or emits bytes.

The signs are those of SWE-World's reinforcement learning (its `garbled_text_file.py`): three writing systems mixed, a symbol
share above 0.40, a control character share above 0.02, replacement characters. They are counted here so that code,
diffs, tables and issues in any one language do not look like it; the tests hold them against recorded conversations.
"""

import re
from collections.abc import Sequence

from configs.rollout_config import GarbledConfig

_SYSTEMS: dict[str, str] = {
    "Latin": "A-Za-z\u00c0-\u024f",
    "Greek": "\u0370-\u03ff",
    "Cyrillic": "\u0400-\u052f",
    "Armenian": "\u0530-\u058f",
    "Hebrew": "\u0590-\u05ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Indic": "\u0900-\u0dff",
    "Thai and Lao": "\u0e00-\u0eff",
    "Georgian": "\u10a0-\u10ff",
    "Hangul": "\u1100-\u11ff\uac00-\ud7af",
    "Han and Kana": "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff",
}
"""Writing systems as ranges of Unicode; Japanese mixes Han and Kana, so they are one."""
_LETTERS = {name: re.compile(f"[{ranges}]") for name, ranges in _SYSTEMS.items()}
_ASCII_CONTROL = bytes(code for code in (*range(0x20), 0x7F) if code not in b"\t\n\r\x1b")
"""Control characters; tabs, line ends and escape (terminal colours) are ordinary in commands."""
_ASCII_SYMBOLS = bytes(code for code in range(0x21, 0x7F) if not chr(code).isalnum())
_WIDE_CONTROL = re.compile("[\x80-\x9f]")
_WIDE_SYMBOL = re.compile(r"[^\w\s\x00-\x7f]")
_RULE = re.compile(r"(?m)^[\s\-=~*_+.#|:]{1,200}$|^[^\w\n]{1,8}$|(?<=[\s#])([-=~*_+.#])\1{3,200}")
"""Rulers and lines of a few brackets, which tables, headings and code are made of; a flood is longer."""


def garbled_signs(text: str, config: GarbledConfig) -> tuple[str, ...]:
    r"""What speaks against `text`, each sign in a few words; empty for text that may well be meant.

    Texts under `min_chars` characters are only looked at for replacement characters.

    >>> garbled_signs("if (a[i] == b[j]):\n    return {**x}\n" * 9, GarbledConfig())
    ()
    >>> garbled_signs("!" * 400, GarbledConfig())
    ('symbols are 100 % of it',)
    """
    signs: list[str] = []
    replaced = text.count("\ufffd")
    if replaced >= config.replacement_chars:
        signs.append(f"{replaced} replacement characters")
    if len(text) < config.min_chars:
        return tuple(signs)
    systems = writing_systems(text, config.system_share)
    if len(systems) >= config.writing_systems:
        signs.append(f"mixes {', '.join(systems)}")
    symbols = _count(text, _ASCII_SYMBOLS, _WIDE_SYMBOL) / len(text)
    if symbols > config.symbol_share and (symbols := symbol_share(text)) > config.symbol_share:
        signs.append(f"symbols are {100 * symbols:.0f} % of it")
    control = _count(text, _ASCII_CONTROL, _WIDE_CONTROL) / len(text)
    if control > config.control_share:
        signs.append(f"control characters are {100 * control:.0f} % of it")
    return tuple(signs)


def writing_systems(text: str, least_share: float) -> Sequence[str]:
    """The systems that each hold at least `least_share` of the letters found.

    >>> writing_systems("let me 看看 это", 0.05)
    ['Latin', 'Cyrillic', 'Han and Kana']
    """
    if text.isascii():
        return ["Latin"]
    counts = {name: len(pattern.findall(text)) for name, pattern in _LETTERS.items()}
    total = sum(counts.values())
    return [name for name, count in counts.items() if count and count >= least_share * total]


def symbol_share(text: str) -> float:
    """Symbols over all characters, without rulers and lines of a few brackets unless nothing else is there.

    >>> symbol_share("ab + c"), symbol_share("a\\n-----"), symbol_share("?!")
    (0.16666666666666666, 0.0, 1.0)
    """
    words = _RULE.sub("", text)
    rest = words if words.strip() else text
    return _count(rest, _ASCII_SYMBOLS, _WIDE_SYMBOL) / len(rest) if rest else 0.0


def _count(text: str, ascii_bytes: bytes, wide: re.Pattern[str]) -> int:
    """Characters that are one of `ascii_bytes` or, beyond ASCII, match `wide`."""
    data = text.encode("utf-8", "replace")
    found = len(data) - len(data.translate(None, ascii_bytes))
    return found if text.isascii() else found + len(wide.findall(text))
