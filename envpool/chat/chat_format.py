"""The one renderer from messages to token ids, for SFT, RL, evaluation and serving: `chat_layout`'s blocks, encoded.

`·` marks where context ends and the sampled completion begins:

    <|im_start|>user\\n{user}<|im_end|>\\n<|im_start|>assistant\\n · {completion}<|im_end|> ·
    \\n<|im_start|>user\\n<tool_response>\\n{observation}\\n</tool_response><|im_end|>\\n<|im_start|>assistant\\n · ...

Text between two markers is encoded as one piece, the `assistant\\n` header apart from what follows it, so that pieces which
were appended turn by turn are the ids of the whole conversation rendered at once.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from envpool.chat.chat_layout import END_OF_TEXT, IM_END, IM_START, PLAIN, Block, ChatLayout, blocks, opening_blocks, said
from envpool.chat.chat_template import layout_of, read_template
from envpool.chat.piece_encoder import fast_encoder
from envpool.policy import IntArray, Message

_BEFORE_MARKER = re.compile(r"(?<=<)(?=\|(?:im_start|im_end|endoftext)\|>)")


class EncodeError(ValueError):
    """A text that the tokenizer has no ids for (a vocabulary without an unknown token)."""


class ChatFormat:
    """Renders messages, observations and completions with one tokenizer. Immutable; safe to share between episodes.

    Marker strings inside a message (an observation that prints `<|im_end|>`) become ordinary text, never marker ids.
    Raises ValueError when the tokenizer lacks one of the three markers.
    """

    def __init__(self, tokenizer: Tokenizer, layout: ChatLayout = PLAIN) -> None:
        ids = {marker: tokenizer.token_to_id(marker) for marker in (IM_START, IM_END, END_OF_TEXT)}
        missing = [marker for marker, token in ids.items() if token is None]
        if missing:
            raise ValueError(f"the tokenizer has no {', '.join(missing)}: it needs Qwen's chat markers as special tokens")
        self.layout = layout
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        # Text that merely looks like a special token is then split like any other text.
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._encode_plain = fast_encoder(self._tokenizer) or self._encode_by_library
        self._start, self.end_of_turn_id, self.pad_id = (token for token in ids.values() if token is not None)
        self._newline = self._encode("\n")
        self.newline_length = len(self._newline)
        self.generation_prompt = [self._start, *self._encode("assistant\n")]

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> IntArray:
        """Ids (T,) of a conversation and the generation prompt after it. Raises ValueError for an unknown role.

        Assistant messages are taken as finished turns. `tools` (OpenAI's shape) are documented as the chat template does.
        """
        return _array(self._before_completion(opening_blocks(messages, tools, self.layout)))

    def observation_ids(self, text: str) -> IntArray:
        """What is appended after a finished completion: the line's end, the tool's answer, the next generation prompt."""
        return self.continuation_ids([Message("tool", text)])

    def continuation_ids(self, messages: Sequence[Message]) -> IntArray:
        """What is appended after a finished completion: the line's end, these messages, the next generation prompt."""
        return _array([*self._newline, *self._before_completion(blocks(messages))])

    def completion_ids(self, text: str) -> IntArray:
        """What a model should sample to say `text`: its ids and the end-of-turn id."""
        return _array([*self._encode(text), self.end_of_turn_id])

    def said_ids(self, message: Message) -> IntArray:
        """What a model should sample to say an assistant's message, native calls included."""
        return self.completion_ids(said(message))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a completion, without the trailing end-of-turn. Broken UTF-8 becomes the replacement character."""
        plain = ids.tolist() if isinstance(ids, np.ndarray) else [int(token) for token in ids]
        if plain and plain[-1] == self.end_of_turn_id:
            plain.pop()
        text: str = self._tokenizer.decode(plain, skip_special_tokens=False)
        return text

    def _before_completion(self, appended: Iterable[Block]) -> list[int]:
        ids: list[int] = []
        for block in appended:
            ids += self.block_ids(block)
        return [*ids, *self.generation_prompt]

    def block_ids(self, block: Block) -> list[int]:
        """One block from its start marker to the line's end after its end marker. An assistant's begins with
        `generation_prompt`."""
        if block.role == "assistant":
            head, body = self.generation_prompt, block.body
        else:
            head, body = [self._start], f"{block.role}\n{block.body}"
        return [*head, *self._encode(body), self.end_of_turn_id, *self._newline]

    def _encode(self, text: str) -> list[int]:
        """Ids of plain text. Markers are cut after their `<`: a word-level vocabulary would know them as whole words."""
        text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be encoded
        ids: list[int] = []
        for piece in _BEFORE_MARKER.split(text) if "<|" in text else (text,):
            try:
                ids += self._encode_plain(piece)
            except Exception as error:  # the tokenizers library raises bare Exception
                raise EncodeError(f"the tokenizer cannot encode {piece[:80]!r}: {error}") from error
        return ids

    def _encode_by_library(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def load_chat_format(model_dir: Path) -> ChatFormat:
    """The renderer of a Hugging Face model folder, in the layout of its chat template (without one: no default system message).

    Raises FileNotFoundError or ValueError, naming the file.
    """
    path = model_dir / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"no tokenizer.json in {model_dir}: give the folder of a Hugging Face model")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ValueError(f"cannot read {path}: {error}") from error
    try:
        template = read_template(model_dir)
        return ChatFormat(tokenizer, PLAIN if template is None else layout_of(template))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _array(ids: list[int]) -> IntArray:
    return np.array(ids, dtype=np.int32)
