"""A teacher's simulations and its judge's verdicts on disk, a line per answer, written as they come: a stage that was killed asks
again only for what is missing, and goes on with the samples it had."""

import hashlib
from pathlib import Path
from typing import Any

import orjson

from verifier.reverse_reasoning import Judge, Reasoner
from verifier.world_model_data import WorldSample


class ReasoningJournal:
    """Answers by what they are about: a sample (prompt and true result), and of a verdict also the simulation and the question.

    `teacher` is anything that decides the answers (model, sampling): answers of another teacher lie in another file. One writer
    at a time; use as a context manager. A half line that a killed writer left is cut off.
    """

    def __init__(self, folder: Path, teacher: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"answers_{_digest(teacher)[:12]}.jsonl"
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            path.write_bytes(whole)
        self._answers = {row["key"]: row["answer"] for row in map(orjson.loads, whole.splitlines())}
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> "ReasoningJournal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def reasoner(self, ask: Reasoner) -> Reasoner:
        """`ask`, but only for samples without a simulation here."""

        async def reason(sample: WorldSample, seed: int) -> str:
            key = sample_key(sample)
            if key not in self._answers:
                self._add(key, (await ask(sample, seed)).encode("utf-8", "replace").decode())
            return str(self._answers[key])

        return reason

    def judge(self, ask: Judge) -> Judge:
        """`ask`, but only for what was not judged before; a verdict that could not be read is one, too."""

        async def judge(sample: WorldSample, thought: str, question: str, seed: int) -> bool | None:
            key = sample_key(sample, thought, question)
            if key not in self._answers:
                self._add(key, await ask(sample, thought, question, seed))
            verdict: bool | None = self._answers[key]
            return verdict

        return judge

    def _add(self, key: str, answer: str | bool | None) -> None:
        self._answers[key] = answer
        self._file.write(orjson.dumps({"key": key, "answer": answer}, option=orjson.OPT_APPEND_NEWLINE))


def sample_key(sample: WorldSample, *more: str) -> str:
    """A hash of a sample and of what else is asked about it; the sample's place among others does not matter."""
    messages = [(message.role, message.content) for message in sample.messages]
    return _digest([sample.role, sample.instance_id, messages, sample.truth, sample.outcome, *more])


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode("utf-8", "replace")).hexdigest()
