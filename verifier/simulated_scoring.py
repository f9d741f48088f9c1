"""Asking a reward model for votes: several simulated reports per patch, each worth the probability of its reward token.

The probability comes from the log-prob of the reward token that was sampled: with p the probability of that token and only
`0` and `1` counted as possible there, P(1) is p or 1 - p. (A trained model gives the two tokens all of the mass up to about
1e-4; the mean over samples then integrates over simulations.) An engine reports log-probs after temperature, which divides the
log-odds by it; they are multiplied by it again, so that a vote does not depend on how reports were sampled.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from envpool.chat.chat_format import ChatFormat
from envpool.policy import Completion, Message
from verifier.curator_context import CuratorContext
from verifier.report_format import SimulatedReport, parse_report
from verifier.scorer_prompt import ScorerContext, build_prompt

MAX_LOG_ODDS = 20.0
"""Float32 log-probs near 0 say no more than this."""


@dataclass(frozen=True)
class Answer:
    """A model's text, and the probability of reward 1 as the log-prob of its last digit `0` or `1` tells it (None where
    unknown); `digit` is that token's, None where none was found."""

    text: str
    probability: float | None = None
    digit: int | None = None


@dataclass(frozen=True)
class Vote:
    """One readable report: the verdict (0 or 1) and the probability of 1 (the verdict itself where no log-prob is known)."""

    reward: int
    probability: float
    contradicts_itself: bool = False
    statuses: Mapping[str, str] = field(default_factory=dict)


GenerateAnswer = Callable[[tuple[Message, ...], int], Awaitable[Answer]]
"""A model: messages and a seed in, its answer out. Raises PolicyError when the engine broke."""


def answer_of(completion: Completion, chat: ChatFormat, temperature: float) -> Answer:
    """The text of a completion and the probability of reward 1 in it."""
    text = chat.decode(completion.token_ids)
    for index in range(len(completion.token_ids) - 1, -1, -1):
        token = chat.decode([completion.token_ids[index]]).strip()
        if not token or not any(char in "01" for char in token):
            continue
        logprob = float(completion.rollout_logprobs[index])
        if token in ("0", "1") and not math.isnan(logprob):
            return Answer(text, reward_probability(logprob, token == "1", temperature), int(token))
        break
    return Answer(text)


def reward_probability(logprob: float, sampled_one: bool, temperature: float = 1.0) -> float:
    """P(1) at temperature 1, from the log-prob of the sampled reward token at `temperature`.

    >>> round(reward_probability(math.log(0.8), True), 3), round(reward_probability(math.log(0.8), False), 3)
    (0.8, 0.2)
    >>> round(reward_probability(math.log(0.8), True, temperature=0.5), 3)
    0.667
    """
    log_odds = logprob - math.log(max(-math.expm1(min(logprob, 0.0)), 1e-12)) if logprob < 0 else MAX_LOG_ODDS
    log_odds = max(-MAX_LOG_ODDS, min(MAX_LOG_ODDS, log_odds * (temperature or 1.0)))
    return 1.0 / (1.0 + math.exp(-log_odds if sampled_one else log_odds))


def vote_of(answer: Answer) -> Vote | None:
    """The vote in an answer; None for one that is no report, or whose probability was not read from the reward's token."""
    report = parse_report(answer.text)
    if not isinstance(report, SimulatedReport) or answer.digit not in (None, report.reward):
        return None
    probability = float(report.reward) if answer.probability is None else answer.probability
    return Vote(report.reward, probability, report.contradicts_itself, report.statuses)


def mean_probability(votes: Sequence[Vote | None]) -> float | None:
    """Mean over the readable reports; None without one.

    >>> mean_probability((Vote(1, 0.9), None, Vote(0, 0.4)))
    0.65
    """
    valid = [vote.probability for vote in votes if vote is not None]
    return sum(valid) / len(valid) if valid else None


async def score_candidates(
    generate: GenerateAnswer,
    contexts: Sequence[ScorerContext | None],
    num_scores: int,
    seed: int,
    max_chars: int = 200_000,
    form: str = "compact",
) -> list[tuple[Vote | None, ...]]:
    """`num_scores` votes per candidate, in order; None for an unreadable report. All are asked for at once.

    A candidate without a context, or with an empty patch, has no votes and no call is made (its score is 0). Errors of
    `generate` are raised after the other calls were cancelled.
    """

    async def vote(messages: tuple[Message, ...], index: int) -> Vote | None:
        return vote_of(await generate(messages, seed + index))

    calls: list[list[asyncio.Task[Vote | None]]] = []
    try:
        async with asyncio.TaskGroup() as running:
            for position, context in enumerate(contexts):
                if context is None or not patch_of(context).strip():
                    calls.append([])
                    continue
                messages = build_prompt(context, max_chars, form)
                first = position * num_scores
                calls.append([running.create_task(vote(messages, first + number)) for number in range(num_scores)])
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [tuple(call.result() for call in of_one) for of_one in calls]


def patch_of(context: ScorerContext) -> str:
    """The patch that a context shows."""
    return context.deployable.patch if isinstance(context, CuratorContext) else context.patch
