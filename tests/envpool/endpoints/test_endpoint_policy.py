"""The endpoint policy against a real HTTP server on this machine."""

import asyncio
import json
import pickle
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.rollout_config import EndpointConfig, RolloutConfig
from configs.run_config import RunConfig
from configs.stage_loading import ConfigError, config_as_yaml, load_config
from envpool.endpoints.chat_endpoint import ChatEndpoint
from envpool.endpoints.endpoint_policy import EndpointPolicy
from envpool.endpoints.token_usage import TokenUsage, UsageLedger, read_ledgers, usage_record
from envpool.policy import GenerateRequest, Message, PolicyError
from tests.envpool.agent.agent_doubles import CHAT

REQUEST = GenerateRequest(
    "s", (Message("system", "be brief"), Message("user", "go"), Message("assistant", "a\ud800"), Message("tool", "edited")),
    np.zeros(3, np.int32), 64, 0.7, 5,
)  # fmt: skip
KEY_NAME = "SWE_MASTER_TEST_ENDPOINT_KEY"


class ScriptedServer:
    """Answers each request with the next (status, headers, body); records what it was asked. The last answer repeats."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.was_asked = threading.Event()
        self.gate = threading.Event()
        """Answers wait for it."""
        self.gate.set()
        self.asked_at: list[float] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                script.asked_at.append(time.time())
                script.was_asked.set()
                script.gate.wait(30)
                script.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, json.loads(body)))
                status, headers, answer = script.answers[min(len(script.asked), len(script.answers)) - 1]
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                return None

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})

    def says(self, content: str | None, finish: str = "stop", usage: Any = None, **message: Any) -> None:
        answer = {
            "choices": [{"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}],
            "usage": usage or {"prompt_tokens": 20, "completion_tokens": 7},
        }
        self.answers.append((200, {}, json.dumps(answer).encode()))

    def fails(self, status: int, body: str = "", **headers: str) -> None:
        self.answers.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, body.encode()))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    scripted.thread.start()
    yield scripted
    scripted.http.shutdown()
    scripted.http.server_close()
    scripted.thread.join()


def endpoint_at(url: str, deadline_s: float = 20.0, ledger: Path | None = None, **fields: Any) -> ChatEndpoint:
    config = EndpointConfig(**{"base_url": url, "model": "teacher-1", "request_timeout_s": 10.0, **fields})
    return ChatEndpoint(config, deadline_s, ledger=UsageLedger(ledger))


def policy_at(url: str, **fields: Any) -> EndpointPolicy:
    return EndpointPolicy(endpoint_at(url, **fields), CHAT)


async def test_a_completion_carries_ids_nan_logprobs_and_token_counts(server: ScriptedServer) -> None:
    server.says("<function=submit>\n</function>")
    policy = policy_at(server.url + "/")
    completion = await policy(REQUEST)
    await policy(REQUEST)
    await policy.close()
    assert completion.token_ids.tolist() == CHAT.completion_ids("<function=submit>\n</function>").tolist()
    assert np.isnan(completion.rollout_logprobs).all()
    assert len(completion.rollout_logprobs) == len(completion.policy_versions) == len(completion.token_ids)
    assert completion.finish_reason == "stop"
    path, headers, body = server.asked[0]
    assert path == "/v1/chat/completions"
    assert "authorization" not in headers
    assert body == {
        "model": "teacher-1",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": "a?"},
            {"role": "user", "content": "<tool_response>\nedited\n</tool_response>"},
        ],
        "max_tokens": 64,
        "temperature": 0.7,
        "seed": 5,
    }
    usage = policy.endpoint.usage
    assert (usage.requests, usage.retries, usage.prompt_tokens, usage.completion_tokens) == (2, 0, 40, 14)


async def test_further_fields_of_a_request(server: ScriptedServer) -> None:
    server.says("ok")
    await policy_at(server.url, extra_body={"reasoning_effort": "high", "temperature": 0.1})(REQUEST)
    assert (server.asked[0][2]["reasoning_effort"], server.asked[0][2]["temperature"]) == ("high", 0.1)


async def test_a_cut_answer_has_no_end_of_turn(server: ScriptedServer) -> None:
    server.says("half a", finish="length")
    completion = await policy_at(server.url)(REQUEST)
    assert completion.finish_reason == "length"
    assert completion.token_ids.tolist() == CHAT.completion_ids("half a")[:-1].tolist()


async def test_an_answer_without_text_is_an_empty_completion(server: ScriptedServer) -> None:
    server.says(None)
    assert (await policy_at(server.url)(REQUEST)).token_ids.tolist() == [CHAT.end_of_turn_id]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_passing_failures_are_retried(server: ScriptedServer, status: int) -> None:
    server.fails(status, "later", Retry_After="0")
    server.says("ok")
    policy = policy_at(server.url)
    assert CHAT.decode((await policy(REQUEST)).token_ids) == "ok"
    assert (len(server.asked), policy.endpoint.usage.retries) == (2, 1)


async def test_lasting_failures_end_with_the_attempts(server: ScriptedServer) -> None:
    server.fails(503, "model is loading")
    with pytest.raises(PolicyError, match=r"/v1/chat/completions failed: HTTP 503 model is loading; check that the server runs"):
        await policy_at(server.url, max_attempts=2)(REQUEST)
    assert len(server.asked) == 2


async def test_the_deadline_ends_a_long_wait(server: ScriptedServer) -> None:
    server.fails(429, "slow down", Retry_After="100")
    with pytest.raises(PolicyError, match="failed: HTTP 429 slow down"):
        await policy_at(server.url, deadline_s=2.0)(REQUEST)  # in which the answer comes
    assert len(server.asked) == 1


async def test_an_endpoint_that_does_not_answer_is_not_reported_as_a_rate_limit(server: ScriptedServer) -> None:
    server.gate.clear()
    server.says("ok")
    policy = policy_at(server.url, deadline_s=0.5)
    asking = asyncio.create_task(policy(REQUEST))
    await asyncio.wait({asking})
    server.gate.set()
    with pytest.raises(PolicyError, match=r"failed: no answer in 0\.\d+ s; check that the server runs"):
        await asking


async def test_the_seconds_of_the_answered_try_are_the_models(server: ScriptedServer) -> None:
    """Not those of a try that failed, nor the pause after it."""
    server.fails(503, "later")
    server.says("ok")
    server.gate.clear()
    policy = policy_at(server.url)
    assert await policy.model_s(REQUEST) == 0.0
    began = time.monotonic()
    asking = asyncio.create_task(policy(REQUEST))
    await asyncio.to_thread(server.was_asked.wait, 30)
    await asyncio.sleep(0.3)
    under_way_s = await policy.model_s(REQUEST)
    server.gate.set()
    completion = await asking
    assert under_way_s > 0.25
    assert completion.model_s is not None
    assert 0.0 < completion.model_s < time.monotonic() - began - under_way_s
    assert await policy.model_s(REQUEST) == 0.0


async def test_a_request_that_waits_for_the_rate_limit_costs_no_time_of_the_model(server: ScriptedServer) -> None:
    server.says("ok")
    policy = policy_at(server.url)
    policy.endpoint.limiter.silence(60.0)
    asking = asyncio.create_task(policy(REQUEST))
    await asyncio.sleep(0.05)
    assert await policy.model_s(REQUEST) == 0.0
    asking.cancel()
    await asyncio.wait({asking})
    assert server.asked == []


async def test_a_refused_request_is_not_repeated(server: ScriptedServer) -> None:
    server.fails(400, '{"error": "context too\n long"}')
    with pytest.raises(PolicyError, match=r'refused the request: HTTP 400 \{"error": "context too long"\}') as caught:
        await policy_at(server.url)(REQUEST)
    assert "\n" not in str(caught.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize("body", ["<html>", "[]", '{"choices": []}', '{"choices": [{"message": {"content": 3}}]}'])
async def test_another_kind_of_server_is_named(server: ScriptedServer, body: str) -> None:
    server.fails(200, body)
    with pytest.raises(PolicyError, match=r"http://127.0.0.1:\d+/v1/chat/completions answered"):
        await policy_at(server.url)(REQUEST)


async def test_an_unreachable_endpoint_is_one_line_with_its_address() -> None:
    with pytest.raises(PolicyError, match=r"http://127.0.0.1:9/v1/chat/completions failed: ConnectError.*check that") as caught:
        await policy_at("http://user:secret@127.0.0.1:9/v1", max_attempts=1)(REQUEST)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "", "ftp://x/v1"])
async def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(PolicyError, match="is no http"):
        await policy_at(url)(REQUEST)


async def test_the_key_is_sent_and_shown_nowhere(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(KEY_NAME, "sk-very-secret")
    caplog.set_level("DEBUG")
    server.fails(401, "Incorrect API key provided: sk-very-secret")
    policy = policy_at(server.url, api_key_env=KEY_NAME)
    with pytest.raises(PolicyError, match=r"Incorrect API key provided: \*\*\*") as caught:
        await policy(REQUEST)
    assert server.asked[0][1]["authorization"] == "Bearer sk-very-secret"
    assert "sk-very-secret" not in repr(policy) + str(caught.value) + caplog.text


async def test_a_key_that_is_not_set_is_named(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_NAME, raising=False)
    with pytest.raises(PolicyError, match=f"environment variable {KEY_NAME} is not set"):
        await policy_at(server.url, api_key_env=KEY_NAME)(REQUEST)
    assert server.asked == []


async def test_reasoning_is_kept_as_a_thought_unless_it_would_be_a_call(server: ScriptedServer) -> None:
    call = "<function=submit>\n</function>"
    server.says(call, reasoning_content="It is fixed.")
    server.says(call, reasoning=f"I could say {call} now.")
    policy = policy_at(server.url)
    kept, left_out = [CHAT.decode((await policy(REQUEST)).token_ids) for _ in range(2)]
    assert kept == f"<think>\nIt is fixed.\n</think>\n\n{call}"
    assert left_out == call


async def test_tokens_and_dollars_add_up_in_a_ledger_that_outlives_the_process(server: ScriptedServer, tmp_path: Path) -> None:
    server.says("ok", usage={"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 600}})
    prices = {"usd_per_million_prompt": 2.0, "usd_per_million_cached": 0.5, "usd_per_million_completion": 10.0}
    path = tmp_path / "usage" / "worker_0.jsonl"
    for _ in range(2):  # two processes after one another
        policy = policy_at(server.url, ledger=path, **prices)
        await policy(REQUEST)
        await policy.close()
    assert policy.endpoint.usage == TokenUsage(1, 0, 1000, 600, 10, 0.0012)
    with path.open("ab") as file:
        file.write(b'\n{"session": "torn')
    assert read_ledgers([path]) == {"s": TokenUsage(2, 0, 2000, 1200, 20, 0.0024)}
    assert usage_record(read_ledgers([path])) == {
        "sessions": 1, "requests": 2, "prompt_tokens": 2000, "cached_tokens": 1200, "completion_tokens": 20, "cost_usd": 0.0024,
    }  # fmt: skip


async def test_the_key_is_in_no_file(server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_NAME, "sk-very-secret")
    server.says("ok")
    policy = policy_at(server.url, api_key_env=KEY_NAME, ledger=tmp_path / "usage.jsonl")
    await policy(REQUEST)
    (tmp_path / "config.yaml").write_text(
        config_as_yaml(replace(RunConfig(), rollout=RolloutConfig(endpoint=policy.endpoint.config)))
    )
    files = [tmp_path / "config.yaml", tmp_path / "usage.jsonl"]
    assert all(b"sk-very-secret" not in path.read_bytes() for path in files)
    assert b"sk-very-secret" not in pickle.dumps(policy.endpoint.config)


@pytest.mark.parametrize("fields", [{"api_key_env": "sk-proj-abc123"}, {"base_url": "https://me:secret@host/v1"}])
def test_a_key_in_the_configuration_is_refused_and_not_repeated(fields: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="environment variable") as caught:
        load_config(None, [f"curate.lsp.judge.{name}={value}" for name, value in fields.items()])
    assert "abc123" not in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_retry_after_silences_all_requests(server: ScriptedServer) -> None:
    """The date form; both requests are answered, and the second was not sent while the first one's silence lasted."""
    until = int(time.time()) + 3
    server.fails(429, "slow down", Retry_After=formatdate(until, usegmt=True))
    server.says("ok")
    policy = policy_at(server.url)
    first = asyncio.create_task(policy(REQUEST))
    while policy.endpoint.usage.retries == 0:  # noqa: ASYNC110 (then the refusal has been read)
        await asyncio.sleep(0.01)
    await policy(REQUEST)
    await first
    assert len(server.asked) == 3
    assert min(server.asked_at[1:]) >= until - 0.05


async def test_the_rate_limit_is_kept_and_its_wait_is_bounded(server: ScriptedServer) -> None:
    server.says("ok")
    policy = policy_at(server.url, requests_per_minute=2, deadline_s=2.0)  # in which two are answered
    await asyncio.gather(policy(REQUEST), policy(REQUEST))
    with pytest.raises(PolicyError, match=r"its rate limit lets no request through in 2 s"):
        await policy(REQUEST)
    assert len(server.asked) == 2
