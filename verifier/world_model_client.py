"""A world model behind an engine or endpoint: votes on patches and results of commands, with what they cost."""

from dataclasses import dataclass, field

from configs.world_model_config import WorldModelConfig
from envpool.chat_format import ChatFormat
from envpool.policy import Completion, Generate, GenerateRequest, Message
from envpool.transition_format import ExecutionContext, InvalidRun, SimulatedRun, parse_run, transition_prompt
from verifier.scorer_prompt import ScorerContext, build_prompt
from verifier.simulated_scoring import Answer, Vote, answer_of, score_candidates

FITTING_TRIES = 8


@dataclass
class ModelUsage:
    """Calls and tokens so far."""

    calls: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.answer_tokens


@dataclass(frozen=True)
class WorldModelClient:
    """`generate` samples from the model; `max_model_len` is what its engine can hold. Raises PolicyError when it broke."""

    generate: Generate
    chat: ChatFormat = field(repr=False)
    config: WorldModelConfig
    max_model_len: int
    usage: ModelUsage = field(default_factory=ModelUsage)

    async def votes(self, session: str, context: ScorerContext, seed: int) -> tuple[Vote | None, ...]:
        """`num_scores` votes on one patch, its context cut until it fits; () for an empty patch."""
        max_chars = self.fitting_chars(context)

        async def answer(messages: tuple[Message, ...], sample_seed: int) -> Answer:
            completion = await self._sample(
                session, messages, self.config.max_report_tokens, self.config.temperature, sample_seed
            )
            return answer_of(completion, self.chat, self.config.temperature)

        (votes,) = await score_candidates(answer, [context], self.config.num_scores, seed, max_chars, self.config.form)
        return votes

    async def simulate(self, messages: tuple[Message, ...], seed: int) -> str:
        """The answer to a transition's prompt: greedy at seeds that 4 divides, else sampled (a greedy answer that cannot be
        read would not get better)."""
        temperature = 0.0 if seed % 4 == 0 else self.config.temperature
        completion = await self._sample(f"swt/{seed}", messages, self.config.max_run_tokens, temperature, seed)
        return self.chat.decode(completion.token_ids)

    async def run(self, context: ExecutionContext, seed: int = 0) -> SimulatedRun | InvalidRun:
        """What one command would do."""
        return parse_run(await self.simulate(transition_prompt(context, self.config.max_prompt_chars, self.config.form), seed))

    def fitting_chars(self, context: ScorerContext) -> int:
        """The largest budget, of a few tried, whose prompt fits the engine beside a report."""
        limit = self.max_model_len - self.config.max_report_tokens
        chars = self.config.max_prompt_chars
        for _ in range(FITTING_TRIES):
            messages = build_prompt(context, chars, self.config.form)
            num_tokens = len(self.chat.prompt_ids(messages))
            if num_tokens <= limit:
                return chars
            length = sum(len(message.content) for message in messages)
            chars = max(1, int(min(chars, length) * limit / num_tokens * 0.9))
        return chars

    async def _sample(
        self, session: str, messages: tuple[Message, ...], max_tokens: int, temperature: float, seed: int
    ) -> Completion:
        prompt = self.chat.prompt_ids(messages)
        room = self.max_model_len - len(prompt)
        if room < 1:
            raise ValueError(
                f"a world model's prompt of {len(prompt)} tokens does not fit engine.max_model_len={self.max_model_len}"
            )
        completion = await self.generate(GenerateRequest(session, messages, prompt, min(max_tokens, room), temperature, seed))
        self.usage.calls += 1
        self.usage.prompt_tokens += len(prompt)
        self.usage.answer_tokens += len(completion.token_ids)
        return completion
