"""The endpoint policy against a real HTTP server on this machine."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from envpool.endpoint_policy import EndpointPolicy
from envpool.policy import GenerateRequest, Message, PolicyError
from tests.envpool.agent_doubles import CHAT

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
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
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

    def says(self, content: str | None, finish: str = "stop") -> None:
        answer = {
            "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": finish}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 7},
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


def policy_at(url: str, **fields: Any) -> EndpointPolicy:
    return EndpointPolicy(url, "teacher-1", CHAT, **{"deadline_s": 20.0, "request_timeout_s": 10.0, **fields})


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
    usage = policy.usage
    assert (usage.requests, usage.retries, usage.prompt_tokens, usage.completion_tokens) == (2, 0, 40, 14)


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
    assert (len(server.asked), policy.usage.retries) == (2, 1)


async def test_lasting_failures_end_with_the_attempts(server: ScriptedServer) -> None:
    server.fails(503, "model is loading")
    with pytest.raises(PolicyError, match=r"/v1/chat/completions failed: HTTP 503 model is loading; check that the server runs"):
        await policy_at(server.url, max_attempts=2)(REQUEST)
    assert len(server.asked) == 2


async def test_the_deadline_ends_a_long_wait(server: ScriptedServer) -> None:
    server.fails(429, "slow down", Retry_After="100")
    with pytest.raises(PolicyError, match="failed: HTTP 429 slow down"):
        await policy_at(server.url, deadline_s=0.3)(REQUEST)
    assert len(server.asked) == 1


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
