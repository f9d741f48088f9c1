"""The tiny model's tokenizer: one token per word, number below 100, operator or tool tag; bytes for everything else.

A byte-level BPE without merges: a piece that is in the vocabulary is one token, any other piece is spelled in bytes, so every
text survives a round trip. The pre-tokenizer splits white space, words, numbers and symbols apart, so that an identifier is the
same token wherever it stands (what makes copying learnable).

Load it with `tokenizers.Tokenizer.from_file` or `transformers.PreTrainedTokenizerFast.from_pretrained`: for a Qwen2 model,
`AutoTokenizer` of transformers 5 ignores the pre-tokenizer in the file and puts Qwen's own in its place.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from envpool.chat.chat_layout import PLAIN
from envpool.chat.chat_template import jinja_template
from envpool.micro.micro_names import (
    ARGUMENTS,
    EXPLICIT_TEMPLATES,
    MODULES,
    NOUNS,
    OPERATOR_INFIX,
    OPERATOR_NOUNS,
    VAGUE_TEMPLATES,
    VERBS,
    Split,
)

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOOL_TAGS = (
    "<function=str_replace_editor>\n<parameter=command>view</parameter>\n<parameter=path>",
    "<function=str_replace_editor>\n<parameter=command>str_replace</parameter>\n<parameter=path>",
    "<function=str_replace_editor>\n<parameter=command>create</parameter>\n<parameter=path>",
    "<function=str_replace_editor>\n<parameter=command>insert</parameter>\n<parameter=path>",
    "</parameter>\n<parameter=old_str>",
    "</parameter>\n<parameter=new_str>",
    "</parameter>\n<parameter=file_text>",
    "</parameter>\n<parameter=insert_line>",
    "</parameter>\n<parameter=view_range>",
    "<function=execute_bash>\n<parameter=command>",
    "</parameter>\n</function>",
    "<function=submit>\n</function>",
    "\n<tool_response>\n",
    "\n</tool_response>",
    "<issue>\n",
    "\n</issue>\n<patch>\n",
    "\n</patch>\n<files>\n",
    "\n</files>\n<tests>\n",
    "\n</tests>",
    "<reward>",
    "</reward>",
)
# Pieces that are one token when they stand exactly so; tried before the general pattern, longest first.
PHRASES = (
    "import sys\n\nsys.dont_write_bytecode = True\n",
    "):\n    return ", ":\n    raise SystemExit('failed ",
    "')\nprint('passed')", "')\nif ", "python3 test_", "python3 ", "print('passed')", " hidden_test_", ".py::test_",
    "::", "def ", "return ", "import ", "from ",
    "if ", ") is ", ", wanted ", "PASSED", "FAILED",
    "exit ", "\n\n\n", "\n\n", "\n    ", "    ", ", ", ".py", " + ", " - ", " * ", " // ", " % ", " / ",
    " != ", " == ", " = ", " < ", " > ", " -> ", " <= ", " >= ", "!=", "==", "//", "**", "<=", ">=", "->", "...", ": ", ". ",
    "):",
)  # fmt: skip
OTHER_WORDS = str.split("""
edited passed failed not found matches times no such file tool call old_str timeout error exit user assistant system str
int float is wanted test tests hidden True False None and or in for while else elif class self list dict set tuple range
len sum min max abs the a an of to it its that this was were be been are has have had do does did on at by with as but
if so then than when where which who what why how all any both each few more most other some such only own same too very
can will just now here there up down out over under again once before after above below between through during into
about against also even still yet let me look run check change changed line lines code value values number numbers name
names input output call calls called type kind use used using new next try tried open close read write copy swap find
replace keep drop start stop done yes good better best worse great small large long short big little red blue green
white black north south east west apple river stone cloud window table chair paper metal water light sound music story
house road tree bird fish horse bread sugar salt glass wood iron gold silver copper rain snow wind storm day night week
month year hour minute second one two three four five six seven eight nine ten zero half double pair map key node edge
graph stack queue cache index limit count total mean sort filter parse token word text page sheet chart unit group item
order state event time date clock alpha beta gamma delta omega sigma SyntaxError NameError TypeError ImportError
IndentationError ZeroDivisionError AttributeError ModuleNotFoundError Traceback File module sys print def return import
from raise
""")
TEMPLATE_SETS: tuple[tuple[dict[Split, tuple[str, ...]], Split], ...] = (
    (EXPLICIT_TEMPLATES, "train"),
    (EXPLICIT_TEMPLATES, "heldout"),
    (VAGUE_TEMPLATES, "train"),
    (VAGUE_TEMPLATES, "heldout"),
    (EXPLICIT_TEMPLATES, "validation"),
    (VAGUE_TEMPLATES, "validation"),
)
WORD_PATTERN = r"[A-Za-z]+|[0-9]{1,2}|[^\S\n ]+| +|\n+|[^A-Za-z0-9\s]"


def vocabulary_words() -> list[str]:
    """Every word that is one token, in a fixed order without repeats."""
    words: list[str] = [*VERBS, *NOUNS, *MODULES, *(word for pair in ARGUMENTS for word in pair)]
    words += [*OPERATOR_NOUNS.values(), *OPERATOR_INFIX.values(), *OTHER_WORDS]
    for templates, split in TEMPLATE_SETS:
        for template in templates[split]:
            plain = template.format(f="", m="", a="", b="", noun="", infix="")
            words += "".join(char if char.isalpha() else " " for char in plain).split()
    return list(dict.fromkeys(words))


def build_tokenizer() -> Tokenizer:
    """The tokenizer, deterministic; ids 0 to 2 are `SPECIAL_TOKENS`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spell = {piece: _spelled(piece) for piece in (*PHRASES, *vocabulary_words(), *map(str, range(100)))}
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys((*SPECIAL_TOKENS, *alphabet, *spell.values())))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True, byte_fallback=False))
    phrases = "|".join(_escaped(phrase) for phrase in sorted(PHRASES, key=len, reverse=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"{phrases}|{WORD_PATTERN}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TOOL_TAGS])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes tokenizer.json and the settings that transformers and vLLM read beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        # Without this, AutoTokenizer (and so vLLM's server) takes a model_type of qwen2 to mean Qwen's own pre-tokenizer.
        "auto_map": {"AutoTokenizer": [None, None]},
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "chat_template": jinja_template(PLAIN),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def _spelled(piece: str) -> str:
    """A piece in the byte-level alphabet.

    >>> _spelled(" + ")
    'Ġ+Ġ'
    """
    return "".join(
        token for token, _ in pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(piece)
    )


def _escaped(phrase: str) -> str:
    return "".join(char if char.isalnum() else f"\\x{{{ord(char):x}}}" for char in phrase)
