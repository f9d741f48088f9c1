"""Doubles for the agent's tests: a small tokenizer and a policy that reads its lines."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from envpool.chat.chat_format import ChatFormat
from envpool.chat.chat_layout import END_OF_TEXT, IM_END, IM_START
from envpool.policy import Completion, FinishReason, GenerateRequest


def byte_tokenizer() -> Tokenizer:
    """Byte-level, no merges but three that cross the places where pieces meet: any text survives a round trip."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ċ", "Ċ"), ("Ċ", "<"), ("i", "f")]
    words = [*alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([IM_START, IM_END, END_OF_TEXT])
    return tokenizer


CHAT = ChatFormat(byte_tokenizer())


@dataclass
class LinePolicy:
    """Says the given lines one after the other. A line (text, reason) ends with that finish reason, 'length' without its
    end-of-turn. Fails loudly when its lines are used up."""

    chat: ChatFormat
    lines: Sequence[str | tuple[str, FinishReason]]
    requests: list[GenerateRequest] = field(default_factory=list)

    async def __call__(self, request: GenerateRequest) -> Completion:
        assert len(self.requests) < len(self.lines), "the scripted policy has no line left"
        line = self.lines[len(self.requests)]
        self.requests.append(request)
        text, reason = line if isinstance(line, tuple) else (line, "stop")
        ids = self.chat.completion_ids(text)
        if reason == "length":
            ids = ids[:-1][: request.max_tokens]
        versions = np.full(len(ids), 3, np.int32)
        return Completion(ids, np.full(len(ids), -0.5, np.float32), versions, reason)
