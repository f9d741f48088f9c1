"""Scripted doubles for the agent's tests: a small tokenizer, a sandbox in memory, a policy that reads its lines."""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from envpool.chat_format import END_OF_TEXT, IM_END, IM_START, ChatFormat
from envpool.policy import Completion, FinishReason, GenerateRequest
from envpool.sandbox import ExecResult


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
class MemorySandbox:
    """Files in a dict (absolute paths) and commands answered by `shell`; an unknown command is an AssertionError."""

    files: dict[str, bytes]
    shell: Callable[[str], ExecResult | None] = lambda command: None
    workdir: str = "/testbed"
    commands: list[tuple[str, float]] = field(default_factory=list)

    async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
        self.commands.append((command, timeout_s))
        result = self.shell(command)
        assert result is not None, f"the script has no answer to {command!r}"
        return result

    async def read_file(self, path: str, max_bytes: int = 1_048_576) -> bytes:
        path = self._inside(path)
        if any(name.startswith(f"{path}/") for name in self.files):
            raise IsADirectoryError(21, "Is a directory", path)
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path][:max_bytes]

    async def write_file(self, path: str, data: bytes) -> None:
        self.files[self._inside(path)] = data

    async def close(self) -> None:
        return None

    def _inside(self, path: str) -> str:
        path = posixpath.normpath(posixpath.join(self.workdir, path))
        if not path.startswith(self.workdir):
            raise PermissionError(13, "Permission denied", path)
        return path


def answers(table: Mapping[str, str | tuple[int, str]]) -> Callable[[str], ExecResult | None]:
    """A shell that knows these commands: output, or exit code and output."""

    def shell(command: str) -> ExecResult | None:
        if command not in table:
            return None
        said = table[command]
        exit_code, output = (0, said) if isinstance(said, str) else said
        return ExecResult(exit_code, output, False, exit_code == 124, 0.01)

    return shell


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
