"""The policies that need no engine: scripted teachers, and the configured endpoints."""

from pathlib import Path

from configs.run_config import RunConfig
from envpool.action_formats import action_format
from envpool.chat.chat_format import ChatFormat
from envpool.endpoints.chat_endpoint import ChatEndpoint
from envpool.endpoints.endpoint_policy import EndpointPolicy
from envpool.endpoints.token_usage import UsageLedger
from envpool.micro.scripted_policy import TEACHERS, ScriptedPolicy
from envpool.policy import Generate

LEDGERS = "endpoint_usage"
"""Folder beside the journals with a ledger per worker."""
WORLD_LEDGERS = "world_model_usage"
"""The same of world_model.endpoint: a ledger per worker, and one per stage that asks it from the driver."""


def scripted_policies(chat: ChatFormat, action: str) -> dict[str, Generate]:
    """Every scripted teacher as a policy that writes its calls in the named form (envpool.action_formats)."""
    form = action_format(action)
    return {name: ScriptedPolicy(teacher, chat.completion_ids, form) for name, teacher in TEACHERS.items()}


def endpoint_policy(config: RunConfig, chat: ChatFormat, journal: Path | None) -> EndpointPolicy:
    """The policy behind `rollout.endpoint`; its deadline is that of an engine request. All workers share its rate limits."""
    asked = config.rollout.endpoint
    deadline_s = max(asked.request_timeout_s, config.engine.request_timeout_s)
    ledger = UsageLedger(None if journal is None else journal.parent / LEDGERS / journal.name)
    endpoint = ChatEndpoint(asked, deadline_s, config.cluster.num_rollout_workers, ledger)
    return EndpointPolicy(endpoint, chat, action_format(config.rollout.episode.action_format))


def world_model_policy(config: RunConfig, chat: ChatFormat, ledger: Path | None, share: int = 1) -> EndpointPolicy:
    """The world model behind `world_model.endpoint`, with the same deadline; `share` processes divide its limits. What it takes
    is appended to `ledger`. Close it."""
    asked = config.world_model.endpoint
    deadline_s = max(asked.request_timeout_s, config.engine.request_timeout_s)
    return EndpointPolicy(ChatEndpoint(asked, deadline_s, share, UsageLedger(ledger)), chat, simulates=True)
