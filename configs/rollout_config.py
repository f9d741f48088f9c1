"""How episodes are played."""

from dataclasses import dataclass, field
from typing import Any

from configs.context_config import ContextConfig
from configs.lsp_config import LspConfig


@dataclass(frozen=True)
class GarbledConfig:
    """When a completion counts as garbled; the numbers are SWE-World's where it has one. See envpool.agent.garbled_text."""

    stop: bool = False
    """End the episode at the first garbled completion; its call is not made."""
    writing_systems: int = 3
    """So many writing systems mixed."""
    system_share: float = 0.05
    """A writing system counts from this share of the letters on, so that a quoted name is none."""
    symbol_share: float = 0.40
    """More symbols than this share of the characters, rulers and lines of a few brackets left out."""
    control_share: float = 0.02
    """More control characters than this share."""
    replacement_chars: int = 3
    """So many replacement characters (broken UTF-8); a limit in tokens may cut one character in two."""
    min_chars: int = 200
    """Shorter completions are only looked at for replacement characters: a short command may be all symbols."""


@dataclass(frozen=True)
class EpisodeConfig:
    prompt: str = "compact"
    """Prompt template, one of envpool.agent.prompt.PROMPTS."""
    action_format: str = "xml"
    """How the model writes a tool call, one of envpool.action_formats.ACTION_FORMATS: `xml` or `native` (the chat template's own
    form, JSON). A property of how the model was trained; nothing is guessed from its name."""
    tools: tuple[str, ...] = ("execute_bash", "str_replace_editor", "submit")
    """Tools the agent may call, names of envpool.tools.TOOLS."""
    max_turns: int = 10
    """Completions per episode, as the budget line counts them."""
    grace_turns: int = 0
    """Turns after `max_turns` in which the agent, told that none is left, may still submit."""
    max_tokens: int = 1024
    """Tokens of the whole episode (prompt, completions and observations), each counted once."""
    max_context_tokens: int = 0
    """Tokens of one request and its completion; 0: as many as max_tokens."""
    max_prompt_tokens: int = 0
    """Tokens of the first prompt (SWE-Master: 8192); 0: it must leave room for one token."""
    max_tokens_per_turn: int = 64
    """Tokens of one completion."""
    max_observation_bytes: int = 4096
    """Longer tool output is cut in the middle."""
    tool_timeout_s: float = 10.0
    """One command. The chain tool < episode < lease is checked when the config is read."""
    episode_timeout_s: float = 120.0
    """One episode, grading not included."""
    max_missing_calls: int = 0
    """So many completions in a row without a tool call end the episode; 0: none do."""
    max_command_timeouts: int = 0
    """So many calls in a row that ran into tool_timeout_s end the episode (SWE-Master: 3); 0: none do."""
    garbled: GarbledConfig = field(default_factory=GarbledConfig)
    context: ContextConfig = field(default_factory=ContextConfig)
    compact_observations: bool = True
    """Short tool answers for tiny models; False gives SWE-Master's wording."""
    lsp: LspConfig = field(default_factory=LspConfig)

    @property
    def context_tokens(self) -> int:
        """Tokens of one request and its completion."""
        return self.max_context_tokens or self.max_tokens


@dataclass(frozen=True)
class EndpointConfig:
    """An OpenAI-compatible endpoint, for the policy named `endpoint`."""

    base_url: str = ""
    """Its address up to and including /v1; empty: none."""
    model: str = ""
    """The model it is asked for."""
    api_key_env: str = ""
    """Environment variable that holds the key; empty: no key is sent."""
    request_timeout_s: float = 120.0
    """One HTTP request."""
    max_attempts: int = 6
    """Tries of a request that fails for a reason that may pass (connection, rate limit, server error)."""
    max_connections: int = 256
    """Requests in flight at once, per process."""
    requests_per_minute: float = 0.0
    """Requests in any 60 s, over all rollout workers; 0: no limit."""
    tokens_per_minute: float = 0.0
    """Prompt and completion tokens in any 60 s, over all rollout workers; 0: no limit."""
    usd_per_million_prompt: float = 0.0
    """Price of prompt tokens that the endpoint had not cached."""
    usd_per_million_cached: float = 0.0
    """Price of prompt tokens that it had cached."""
    usd_per_million_completion: float = 0.0
    """Price of completion tokens."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Further fields of every request, as {reasoning_effort: high} or {tool_choice: required}; what an endpoint calls its own."""


@dataclass(frozen=True)
class RolloutConfig:
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    temperature: float = 1.0
    """Sampling temperature."""
    num_samples: int = 4
    """Episodes per task (best-of-N)."""
    policies: tuple[str, ...] = ("careful", "hasty", "sloppy", "sloppy")
    """Who plays sample i: policies[i % len]. Names of envpool.micro.scripted_policy.TEACHERS, `engine`, or `endpoint`."""
    concurrency: int = 32
    """Episodes in flight on one rollout worker."""
    infra_retries: int = 2
    """Fresh tries of an episode whose sandbox or engine broke, before it is left out."""
    lease_s: float = 300.0
    """A sandbox lease ends then; must exceed the episode's time and the grading's."""
