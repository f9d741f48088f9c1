"""A world model behind an engine or endpoint: votes on patches and results of commands, with what they cost."""

from collections.abc import Callable
from dataclasses import dataclass, field

from configs.world_model_config import WorldModelConfig
from envpool.chat.chat_format import ChatFormat
from envpool.policy import Completion, Generate, GenerateRequest, IntArray, Message, PolicyError
from envpool.simulation.transition_format import ExecutionContext, InvalidRun, SimulatedRun, parse_run, transition_prompt
from verifier.scorer_prompt import ScorerContext, build_prompt, without_observation
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

    def add(self, other: "ModelUsage") -> None:
        self.calls += other.calls
        self.prompt_tokens += other.prompt_tokens
        self.answer_tokens += other.answer_tokens


@dataclass(frozen=True)
class WorldModelClient:
    """`generate` samples from the model; `max_model_len` tokens of prompt and answer are what the run's engines hold: its limit
    where the configuration names no other. Raises PolicyError when it broke."""

    generate: Generate
    chat: ChatFormat = field(repr=False)
    config: WorldModelConfig
    max_model_len: int
    usage: ModelUsage = field(default_factory=ModelUsage)

    async def votes(self, session: str, context: ScorerContext, seed: int) -> tuple[Vote | None, ...]:
        """`num_scores` votes on one patch, its context cut until it fits; () for an empty patch."""
        config = self.config
        context = context if config.show_observed else without_observation(context)
        max_chars, prompt = self._fitted(lambda chars: build_prompt(context, chars, config.form), config.max_report_tokens)

        async def answer(messages: tuple[Message, ...], sample_seed: int) -> Answer:
            request = GenerateRequest(session, messages, prompt, config.max_report_tokens, config.temperature, sample_seed)
            return answer_of(await self._sample(request), self.chat, config.temperature)

        (votes,) = await score_candidates(answer, [context], config.num_scores, seed, max_chars, config.form)
        return votes

    async def simulate(self, context: ExecutionContext, seed: int) -> str:
        """The answer to a transition's prompt, its context cut until it fits: greedy at seeds that 4 divides, else sampled (a
        greedy answer that cannot be read would not get better)."""
        config = self.config
        max_chars, prompt = self._fitted(lambda chars: transition_prompt(context, chars, config.form), config.max_run_tokens)
        messages = transition_prompt(context, max_chars, config.form)
        temperature = 0.0 if seed % 4 == 0 else config.temperature
        completion = await self._sample(
            GenerateRequest(f"swt/{seed}", messages, prompt, config.max_run_tokens, temperature, seed)
        )
        return self.chat.decode(completion.token_ids)

    async def run(self, context: ExecutionContext, seed: int = 0) -> SimulatedRun | InvalidRun:
        """What one command would do."""
        return parse_run(await self.simulate(context, seed))

    def _fitted(self, build: Callable[[int], tuple[Message, ...]], max_tokens: int) -> tuple[int, IntArray]:
        """The largest budget of characters, of a few tried, whose prompt fits the model beside an answer, and its ids."""
        window = self.config.max_model_len or self.max_model_len
        limit = window - max_tokens
        chars = self.config.max_prompt_chars
        for _ in range(FITTING_TRIES):
            messages = build(chars)
            prompt = self.chat.prompt_ids(messages)
            if len(prompt) <= limit:
                return chars, prompt
            length = sum(len(message.content) for message in messages)
            chars = max(1, int(min(chars, length) * limit / len(prompt) * 0.9))
        raise PolicyError(
            f"a world model's prompt of {len(prompt)} tokens and {max_tokens} for its answer do not fit "
            f"{'world_model' if self.config.max_model_len else 'engine'}.max_model_len={window}"
        )

    async def _sample(self, request: GenerateRequest) -> Completion:
        completion = await self.generate(request)
        self.usage.calls += 1
        self.usage.prompt_tokens += len(request.prompt_ids)
        self.usage.answer_tokens += len(completion.token_ids)
        return completion
