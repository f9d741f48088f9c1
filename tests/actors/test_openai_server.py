"""A served model, asked by other programs: the openai client, our endpoint policy, mini-swe-agent."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from actors.openai_server import ServedModel, ServeError, server_arguments
from configs.model_config import EngineConfig
from configs.rollout_config import EndpointConfig
from envpool.action_format import ToolCall
from envpool.action_formats import ACTION_FORMATS
from envpool.chat.chat_format import load_chat_format
from envpool.endpoints.chat_endpoint import ChatEndpoint
from envpool.endpoints.endpoint_messages import native_messages
from envpool.endpoints.endpoint_policy import EndpointPolicy
from envpool.policy import GenerateRequest, Message
from envpool.tool import tool_schemas
from envpool.tools import select_tools
from envpool.trajectory_formats import TRAJECTORY_FORMATS
from trainers.model_paths import resolve_model_path

MODEL = resolve_model_path("tiny_base")
CHAT = load_chat_format(MODEL)
NATIVE = ACTION_FORMATS["native"]
TOOLS = tuple(tool_schemas(select_tools(("execute_bash", "submit"))))
KEY = "a-key-that-must-not-be-logged"
START_S = 400.0
MINI = shutil.which(os.environ.get("MINI_SWE_AGENT", "mini"))
MESSAGES = (
    Message("system", "Be brief."),
    Message("user", "total in sums.py returns the wrong result"),
    Message("assistant", "Look. <function=submit>\n</function>"),
    Message("tool", "no such file"),
)
served = [pytest.mark.engine, pytest.mark.timeout(500)]


@dataclass(frozen=True)
class Server:
    url: str
    log: Path
    process: "subprocess.Popen[bytes]"

    @property
    def endpoint(self) -> EndpointConfig:
        return EndpointConfig(base_url=self.url, model="tiny", api_key_env="VLLM_API_KEY", request_timeout_s=60.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`swe-master serve` on the shipped model."""
    log = tmp_path_factory.mktemp("serve") / "log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["serve", "tiny_base", "engine.max_model_len=2048", "--port", str(port), "--served-model-name", "tiny"]
    with log.open("wb") as file:
        command = [sys.executable, "-m", "cluster.cli", *words]
        process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "VLLM_API_KEY": KEY})
    try:
        started = Server(f"http://127.0.0.1:{port}/v1", log, process)
        wait_until_up(started)
        yield started
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            process.kill()


def wait_until_up(server: Server) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if httpx.get(server.url.removesuffix("/v1") + "/health", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise AssertionError(server.log.read_text()[-3000:])


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    return KEY


def client(server: Server, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key=key, max_retries=0, timeout=60)


for_chat = [{"role": message.role, "content": message.content} for message in MESSAGES]


class TestServed:
    pytestmark = served

    def test_the_server_sees_the_ids_that_our_renderer_makes(self, server: Server) -> None:
        answer = client(server, KEY).chat.completions.create(
            model="tiny",
            messages=for_chat,
            max_tokens=8,
            seed=1,
            extra_body={"return_token_ids": True},  # type: ignore[arg-type]
        )
        assert answer.prompt_token_ids == CHAT.prompt_ids(MESSAGES).tolist()  # type: ignore[attr-defined]
        text = answer.choices[0].message.content
        assert text == CHAT.decode(answer.choices[0].token_ids)  # type: ignore[attr-defined]

    def test_native_conversations_are_the_same_ids_too(self, server: Server) -> None:
        call = NATIVE.render(ToolCall("execute_bash", {"command": "ls -la\ncat <a.py>"}))
        said = NATIVE.assistant_message(f"I look.\n{call}", "call_1")
        messages = (MESSAGES[1], said, Message("tool", "a.py", tool_call_id="call_1"))
        answer = client(server, KEY).chat.completions.create(
            model="tiny",
            messages=native_messages(messages),  # type: ignore[arg-type]
            tools=list(TOOLS),  # type: ignore[arg-type]
            max_tokens=2,
            extra_body={"return_token_ids": True},
        )
        assert answer.prompt_token_ids == CHAT.prompt_ids(messages, TOOLS).tolist()  # type: ignore[attr-defined]

    def test_the_key_is_asked_for_and_not_logged(self, server: Server) -> None:
        with pytest.raises(openai.AuthenticationError):
            client(server, "another").chat.completions.create(model="tiny", messages=for_chat, max_tokens=2)  # type: ignore[arg-type]
        assert [model.id for model in client(server, KEY).models.list()] == ["tiny"]
        assert KEY not in server.log.read_text()

    async def test_our_endpoint_policy_is_answered_and_counts_tokens(self, server: Server, key: str) -> None:
        policy = EndpointPolicy(ChatEndpoint(server.endpoint), CHAT)
        request = GenerateRequest("s", MESSAGES[:2], CHAT.prompt_ids(MESSAGES[:2]), 16, 0.7, 5)
        first, again = await policy(request), await policy(request)
        await policy.close()
        assert first.token_ids.tolist() == again.token_ids.tolist()
        assert np.isnan(first.rollout_logprobs).all()
        usage = policy.endpoint.usage
        assert (usage.requests, usage.prompt_tokens) == (2, 2 * len(request.prompt_ids))
        assert 0 < usage.completion_tokens <= 32

    async def test_native_calls_of_the_server_become_ours(self, server: Server, key: str) -> None:
        """The server's grammar holds the tiny model to one call; its parser, not ours, reads it."""
        forced = r'Look\.\n<tool_call>\n\{"name": "execute_bash", "arguments": \{"command": "(ls|pwd)"\}\}\n</tool_call>'
        config = replace(server.endpoint, extra_body={"structured_outputs": {"regex": forced}})
        policy = EndpointPolicy(ChatEndpoint(config), CHAT, NATIVE)
        messages: tuple[Message, ...] = (Message("user", "go"),)
        for turn in range(2):
            request = GenerateRequest("s", messages, CHAT.prompt_ids(messages), 150, 0.7, turn, TOOLS)
            text = CHAT.decode((await policy(request)).token_ids)
            parsed = NATIVE.parse(text)
            assert parsed is not None
            assert (parsed[0], parsed[1].name, parsed[1].arguments["command"] in ("ls", "pwd")) == ("Look.", "execute_bash", True)
            said = NATIVE.assistant_message(text, f"call_{turn}")
            messages = (*messages, said, Message("tool", "a.py", tool_call_id=f"call_{turn}"))
        await policy.close()

    @pytest.mark.skipif(MINI is None, reason="mini-swe-agent is not installed; MINI_SWE_AGENT may name its `mini`")
    @pytest.mark.parametrize("answers", ["free", "calls"])
    def test_mini_swe_agent_plays_a_task_until_its_step_limit(self, server: Server, tmp_path: Path, answers: str) -> None:
        """With free answers (of a model that knows no bash), and with answers held to one call by the server's grammar."""
        document = play_mini(server, tmp_path, constrained=answers == "calls")
        episode = TRAJECTORY_FORMATS["mini_swe_agent"].from_document(document)
        assert (episode.stop_reason, len(episode.steps), episode.prompt) == ("LimitsExceeded", 3, "Fix add().")
        if answers == "calls":
            assert [step.call.arguments for step in episode.steps if step.call] == [{"command": "echo tiny"}] * 3
            assert all("tiny" in step.observation for step in episode.steps)
        else:
            assert all("No tool calls" in step.observation for step in episode.steps)
            assert any(step.thought for step in episode.steps)


def play_mini(server: Server, folder: Path, constrained: bool) -> dict[str, object]:
    """One run of the `mini` command in its local environment; the trajectory it wrote."""
    call = r'ok\n<tool_call>\n\{"name": "bash", "arguments": \{"command": "echo tiny"\}\}\n</tool_call>'
    options = {"api_base": server.url, "api_key": KEY, "max_tokens": 100, "seed": 3, "drop_params": True}
    limits = {"step_limit": 3, "max_consecutive_format_errors": 0}
    config = {
        "agent": {"system_template": "Call bash.", "instance_template": "{{task}}", **limits},
        "model": {
            "cost_tracking": "ignore_errors",
            "model_kwargs": options | ({"extra_body": {"structured_outputs": {"regex": call}}} if constrained else {}),
        },
    }
    path, output = folder / "mini.yaml", folder / "out.traj.json"
    path.write_text(json.dumps(config))
    words = [MINI, "-m", "hosted_vllm/tiny", "-t", "Fix add().", "-y", "--exit-immediately", "--agent-class", "default"]
    environment = {**os.environ, "MSWEA_GLOBAL_CONFIG_DIR": str(folder), "MSWEA_CONFIGURED": "true", "PYTHONPATH": ""}
    done = subprocess.run(
        [*words, "-c", str(path), "-o", str(output)], cwd=folder, env=environment, capture_output=True, timeout=150, check=False
    )
    assert output.is_file(), done.stdout[-2000:] + done.stderr[-2000:]
    document: dict[str, object] = json.loads(output.read_text())
    return document


def test_a_folder_that_cannot_be_served_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with pytest.raises(ServeError, match=r"has no config.json, tokenizer.json"):
        ServedModel(tmp_path, "m")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ServeError, match="has no chat template"):
        ServedModel(tmp_path, "m")
    with pytest.raises(ServeError, match="set VLLM_API_KEY"):
        ServedModel(MODEL, "m", host="0.0.0.0")
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    arguments = server_arguments(ServedModel(MODEL, "m", host="0.0.0.0"), EngineConfig(), "float32", on_gpu=True)
    assert arguments[arguments.index("--host") + 1] == "0.0.0.0"
    assert "--enforce-eager" not in arguments
    assert KEY not in arguments
