"""One agent plays one problem in one sandbox: generate, parse, call the tool, append; at the end take the patch."""

import asyncio
import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from configs.rollout_config import EpisodeConfig
from envpool.action_format import render_action
from envpool.action_formats import ActionFormat, action_format
from envpool.agent.context_policies import ContextPolicy, View, context_policy
from envpool.agent.context_texts import summary_request, summary_text
from envpool.agent.prompt import PromptTemplate, budget_line, build_messages, prompt_template
from envpool.agent.shown_context import ShownContext
from envpool.agent.stop_rules import stop_after, stop_in_completion, used_up
from envpool.chat.chat_format import ChatFormat, EncodeError
from envpool.git_scrub import extract_patch
from envpool.policy import Completion, Generate, GenerateRequest, IntArray, Message, TimedGenerate, check_completion
from envpool.problem import Problem
from envpool.sandbox import Sandbox
from envpool.sandbox_errors import SandboxLostError
from envpool.tool import Observation, Tool, ToolLimits, call_tool, tool_schemas
from envpool.tools import open_tools
from envpool.trajectory import StopReason, Trajectory, Turn

TOOL_GRACE_S = 15.0
"""A tool call that has not returned this long after its own limit means that the sandbox is lost."""
PATCH_TIMEOUT_S = 30.0
"""Least time that taking the patch may need: git looks at the whole work tree."""


async def run_episode(
    problem: Problem,
    sandbox: Sandbox,
    generate: Generate,
    chat: ChatFormat,
    config: EpisodeConfig,
    *,
    sample_index: int,
    policy_name: str,
    temperature: float,
    seed: int,
    on_turn: Callable[[int, Turn], None] | None = None,
    recorded: Sequence[Turn] = (),
    clock: Callable[[], float] = time.monotonic,
) -> Trajectory:
    """Play the problem once and return the record; `on_turn(index, turn)` sees every finished turn.

    `recorded` are turns of a broken try of this episode, see envpool.agent.episode_replay: their actions are done again in this
    sandbox and they stay in the record as they were; `on_turn` does not see them again.

    Whatever the agent does ends in a Trajectory whose patch is the work tree at the end. Raises SandboxError and
    PolicyError when sandbox or engine broke, ValueError for a prompt or tool that the configuration names in vain.
    """
    started = clock()
    async with open_tools(config) as tools:
        player = _Player(problem, sandbox, generate, chat, config, tools, sample_index, temperature, seed, started, clock)
        player.recorded = tuple(recorded)
        messages = build_messages(player.template, problem, tools, config.max_turns, player.action)
        stop_reason = await player.play(messages, on_turn)
    patch = await extract_patch(sandbox, max(config.tool_timeout_s, PATCH_TIMEOUT_S))
    return Trajectory(
        instance_id=problem.instance_id,
        sample_index=sample_index,
        policy_name=policy_name,
        prompt="\n\n".join(message.content for message in messages),
        turns=tuple(player.turns),
        patch=patch,
        stop_reason=stop_reason,
        seconds=clock() - started,
    )


def session_id(instance_id: str, sample_index: int, seed: int) -> str:
    """What all requests of one episode carry.

    >>> session_id("demo-1", 2, 7)
    'demo-1/2/7'
    """
    return f"{instance_id}/{sample_index}/{seed}"


def turn_seed(seed: int, instance_id: str, sample_index: int, turn: int) -> int:
    """A seed in [0, 2**31) of its own for every completion of a run.

    >>> turn_seed(0, "a", 0, 0) == turn_seed(0, "a", 0, 0), turn_seed(0, "a", 0, 0) == turn_seed(0, "a", 0, 1)
    (True, False)
    """
    digest = hashlib.blake2b(f"{seed}/{instance_id}/{sample_index}/{turn}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") & 0x7FFF_FFFF


async def sample_within(generate: Generate, request: GenerateRequest, limit_s: float) -> tuple[Completion | None, float]:
    """The completion, or None when the model has worked on it for `limit_s` and is not done; and how long it worked, in seconds
    (infinity where nobody measured). A policy that measures is asked when the time is over: a request that its engine has not
    worked on all the time goes on, until it ends or fails. Raises what `generate` raises.
    """
    sampling = asyncio.ensure_future(generate(request))
    try:
        model_s, left_s = 0.0, limit_s
        while left_s > 0 and not (await asyncio.wait({sampling}, timeout=left_s))[0]:
            model_s = await generate.model_s(request) if isinstance(generate, TimedGenerate) else math.inf
            left_s = limit_s - model_s
        if not sampling.done():
            return None, model_s
        completion = sampling.result()
        model_s = math.inf if completion.model_s is None else completion.model_s
        return (completion if left_s > 0 else None), model_s
    finally:
        sampling.cancel()
        await asyncio.wait({sampling})


@dataclass
class _Player:
    """The state of one running episode."""

    problem: Problem
    sandbox: Sandbox
    generate: Generate
    chat: ChatFormat
    config: EpisodeConfig
    tools: dict[str, Tool]
    sample_index: int
    temperature: float
    seed: int
    started: float
    clock: Callable[[], float]
    turns: list[Turn] = field(default_factory=list)
    acted: list[Turn] = field(default_factory=list)  # the turns without the summaries
    recorded: tuple[Turn, ...] = ()
    tokens: int = 0  # of the episode, each counted once
    lost_s: float = 0.0  # seconds of requests in which the model did not work: not the episode's
    view: View = field(default_factory=View)
    next_rewrite: int = 0
    context: ContextPolicy = field(init=False)
    template: PromptTemplate = field(init=False)
    action: ActionFormat = field(init=False)
    template_tools: tuple[Mapping[str, Any], ...] = field(init=False)

    def __post_init__(self) -> None:
        self.template = prompt_template(self.config.prompt)
        self.context = context_policy(self.config.context)
        self.action = action_format(self.config.action_format)
        self.template_tools = self.action.template_tools(tool_schemas(self.tools))

    async def play(self, messages: tuple[Message, ...], on_turn: Callable[[int, Turn], None] | None) -> StopReason:
        """Turn after turn until something ends the episode."""
        config = self.config
        try:
            shown = ShownContext(self.chat, messages, self.template_tools)
        except EncodeError:
            return StopReason.ENCODE_ERROR
        self.tokens = len(shown)
        if len(shown) > (config.max_prompt_tokens or config.context_tokens - 1):
            return StopReason.PROMPT_TOO_LONG
        for index in range(config.max_turns + config.grace_turns):
            if index and (wanted := self.context(self.view, index)) != self.view and index >= self.next_rewrite:
                with contextlib.suppress(EncodeError):  # the history then stays as it is
                    await self.rewrite(shown, wanted, on_turn)
            if (stop := used_up(config, self.tokens, len(shown), self.time_left_s())) is not None:
                return stop
            before = self.recorded_turn(shown.added, summary=False)
            played = await (self.new_turn(shown, index) if before is None else self.repeated(before, index))
            if played is None:
                return StopReason.DEADLINE
            turn, stop, done = played
            self.keep(turn, on_turn, new=before is None)
            self.acted.append(turn)
            said, answer = self.exchange(turn, index)
            shown.said(said, turn.completion_ids)
            self.tokens += len(turn.completion_ids)
            if stop := stop or stop_after(config, self.acted, done, self.tokens):
                return stop
            try:
                self.tokens += shown.answered(answer)
            except EncodeError:
                return StopReason.ENCODE_ERROR
        return StopReason.MAX_TURNS

    def keep(self, turn: Turn, on_turn: Callable[[int, Turn], None] | None, new: bool) -> None:
        """Put a turn into the record; `on_turn` sees the new ones."""
        if new and on_turn is not None:
            on_turn(len(self.turns), turn)
        self.turns.append(turn)

    async def rewrite(self, shown: ShownContext, wanted: View, on_turn: Callable[[int, Turn], None] | None) -> None:
        """Show the history as `wanted` from now on, summed up first where that needs a summary.

        Without a summary all stays and is tried again `interval` turns later. Raises EncodeError before anything has changed.
        """
        interval = self.config.context.interval
        self.next_rewrite = len(self.acted) + interval
        if wanted.first == self.view.first:
            shown.rewrite(wanted, interval)
        else:
            request = summary_request(self.view.first, wanted.first)
            prompt, context = shown.asking(request)
            summary = before = self.recorded_turn(context, summary=True)
            if summary is None and len(self.turns) >= len(self.recorded):
                summary = await self.new_summary((*shown.messages, request), prompt, context)
            if summary is None:
                return
            wanted = replace(wanted, summaries=(*self.view.summaries, summary_text(summary.text)))
            shown.rewrite(wanted, interval)
            self.keep(summary, on_turn, new=before is None)
            self.tokens += len(context) - len(shown.turns[-1].answer_ids) + len(summary.completion_ids)
        self.view, self.next_rewrite = wanted, 0

    async def new_summary(self, messages: tuple[Message, ...], prompt: IntArray, context: IntArray) -> Turn | None:
        """A summary of old turns as a turn of the record; None when none came in time, or no words, or a call."""
        limits = self.config.context
        tokens_left = min(self.config.max_tokens - self.tokens, self.config.context_tokens - len(prompt), limits.summary_tokens)
        if tokens_left < 1:
            return None
        asked = self.clock()
        completion = await self.complete(messages, prompt, tokens_left, limits.summary_timeout_s)
        if completion is None:
            return None
        text = self.chat.decode(completion.token_ids)
        if not summary_text(text) or self.action.parse(text) is not None:
            return None
        return Turn(
            context_ids=context,
            completion_ids=completion.token_ids,
            rollout_logprobs=completion.rollout_logprobs,
            policy_versions=completion.policy_versions,
            text=text,
            action="",
            observation="",
            generate_s=self.clock() - asked,
            tool_s=0.0,
            summary=True,
            train=limits.train_summary,
        )

    def exchange(self, turn: Turn, index: int) -> tuple[Message, Message]:
        """What was said and answered, as messages."""
        said = self.action.assistant_message(turn.text, f"call_{index + 1}")
        return said, self.action.answer(said, turn.observation)

    def recorded_turn(self, context: IntArray, summary: bool) -> Turn | None:
        """The turn of the broken try that stands here. From the first on that does not fit what came before it there are none;
        a summary that the broken try did not get is not asked for again."""
        index = len(self.turns)
        if index >= len(self.recorded):
            return None
        turn = self.recorded[index]
        if turn.summary == summary and np.array_equal(turn.context_ids, context):
            return turn
        if turn.summary or not summary:
            self.recorded = self.recorded[:index]
        return None

    async def repeated(self, turn: Turn, index: int) -> tuple[Turn, StopReason | None, bool]:
        """A recorded turn, its action done again; what came of it is as in `new_turn`."""
        _, observation, stop = await self.act(turn.text, index)
        return turn, stop, observation.done

    async def new_turn(self, shown: ShownContext, index: int) -> tuple[Turn, StopReason | None, bool] | None:
        """A completion with its action done, what in the completion ends the episode, and whether the action does.

        None when the episode's time ran out first.
        """
        asked = self.clock()
        tokens_left = min(self.config.max_tokens - self.tokens, self.config.context_tokens - len(shown))
        max_tokens = min(self.config.max_tokens_per_turn, tokens_left)
        completion = await self.complete(shown.messages, shown.prompt, max_tokens, self.time_left_s())
        if completion is None:
            return None
        generate_s = self.clock() - asked
        text = self.chat.decode(completion.token_ids)
        acted = self.clock()
        action, observation, stop = await self.act(text, index)
        turn = Turn(
            context_ids=shown.added,
            completion_ids=completion.token_ids,
            rollout_logprobs=completion.rollout_logprobs,
            policy_versions=completion.policy_versions,
            text=text,
            action=action,
            observation=observation.text,
            generate_s=generate_s,
            tool_s=self.clock() - acted,
            restart=shown.restarted,
        )
        return turn, stop, observation.done

    async def complete(
        self, messages: tuple[Message, ...], prompt: IntArray, max_tokens: int, timeout_s: float
    ) -> Completion | None:
        """One completion; None when the model took longer than `timeout_s` or the episode's time.

        Seconds of the request in which the model did not work (see TimedGenerate) extend both. Raises PolicyError.
        """
        index = len(self.turns)
        request = GenerateRequest(
            session_id=session_id(self.problem.instance_id, self.sample_index, self.seed),
            messages=messages,
            prompt_ids=prompt,
            max_tokens=max_tokens,
            temperature=self.temperature,
            seed=turn_seed(self.seed, self.problem.instance_id, self.sample_index, index),
            tools=self.template_tools,
        )
        asked, limit_s = self.clock(), min(timeout_s, self.time_left_s())
        completion, model_s = await sample_within(self.generate, request, limit_s)
        self.lost_s += max(0.0, self.clock() - asked - model_s)
        if completion is not None:
            check_completion(completion, f"turn {index} of {request.session_id}")
        return completion

    async def act(self, text: str, index: int) -> tuple[str, Observation, StopReason | None]:
        """The canonical action in a completion ("" when none was made), what came of it, and what in the completion ends the
        episode. Raises SandboxError."""
        parsed = self.action.parse(text)
        if stop := stop_in_completion(self.config, self.acted, text, parsed is not None):
            return "", Observation(""), stop
        if parsed is None:
            reason = self.action.why_unreadable(text)
            return "", self.with_budget(Observation(self.template.no_call.format(reason=reason)), index), None
        _, call = parsed
        timeout_s = max(min(self.config.tool_timeout_s, self.time_left_s()), 0.1)
        limits = ToolLimits(timeout_s, self.config.max_observation_bytes, self.config.compact_observations)
        try:
            async with asyncio.timeout(timeout_s + TOOL_GRACE_S) as deadline:
                observation = await call_tool(call, self.tools, self.sandbox, limits)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise SandboxLostError(f"{call.name} did not return {TOOL_GRACE_S:g} s after its limit of {timeout_s:g} s") from error
        return render_action(call), self.with_budget(observation, index), None

    def with_budget(self, observation: Observation, index: int) -> Observation:
        if not self.template.budget_line or observation.done:
            return observation
        return Observation(f"{observation.text}\n{budget_line(min(index + 1, self.config.max_turns), self.config.max_turns)}")

    def time_left_s(self) -> float:
        return self.config.episode_timeout_s - (self.clock() - self.started - self.lost_s)
