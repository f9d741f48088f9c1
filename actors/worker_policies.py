"""The policies that a rollout worker has without an engine: scripted teachers, and the configured endpoint."""

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
