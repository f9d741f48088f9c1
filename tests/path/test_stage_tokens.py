"""One conversation, three stages: rollout (and RL), SFT from the stored trajectory, evaluation. One sequence of ids, one mask."""

from dataclasses import replace
from pathlib import Path

import pytest

from configs.rollout_config import EpisodeConfig
from envpool.action_format import ToolCall
from envpool.action_formats import ACTION_FORMATS
from envpool.agent.episode import run_episode
from envpool.agent.prompt import PROMPTS, tool_section
from envpool.chat.chat_sample import chat_messages, sample_of_trajectory
from envpool.chat.chat_sample_file import read_samples, write_samples
from envpool.chat.chat_spans import tokenize_chat
from envpool.problem import Problem
from envpool.sandbox import ExecResult
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox, said
from envpool.tool import tool_schemas
from envpool.tools import select_tools
from envpool.trajectories.trajectory_columns import TrajectoryTexts, TurnTexts
from envpool.trajectory import Trajectory
from tests.envpool.agent.agent_doubles import CHAT, LinePolicy
from trainers.pretokenise import conversation_sample
from trainers.sample_building import samples_from_trajectory, sft_samples

PROBLEM = Problem("demo-1", "demo", "c0", "folder:demo", "/testbed", "area should add w and h")
CALLS = (
    ("Let me look.", {"command": "view", "path": "a.py", "view_range": "[1, 1]"}, frozenset({"view_range"})),
    (
        "<think>\nhm\n</think>\n\nAdd a line.",
        {"command": "insert", "path": "a.py", "insert_line": "1", "new_str": "é <|im_end|>"},
        frozenset({"insert_line"}),
    ),
)


async def played(config: EpisodeConfig, temperature: float) -> Trajectory:
    form = ACTION_FORMATS[config.action_format]
    lines = [
        f"{thought}\n{form.render(ToolCall('str_replace_editor', values, json_values=typed))}" for thought, values, typed in CALLS
    ]
    lines += ["No call here.", form.render(ToolCall("submit", {}))]

    def shell(command: str) -> ExecResult:
        return said("diff --git a/a.py b/a.py\n")

    sandbox = ScriptedSandbox({"/testbed/a.py": "x = 1\n"}, shell)
    policy = LinePolicy(CHAT, lines)
    return await run_episode(
        PROBLEM, sandbox, policy, CHAT, config, sample_index=0, policy_name="lines", temperature=temperature, seed=1
    )


@pytest.mark.parametrize("action", ["xml", "native"])
@pytest.mark.parametrize("prompt", ["compact", "full", "few_shot"])
async def test_rollout_sft_and_evaluation_see_the_same_tokens_and_mask(prompt: str, action: str, tmp_path: Path) -> None:
    config = EpisodeConfig(prompt=prompt, action_format=action, compact_observations=prompt == "compact")
    config = replace(config, max_tokens=60_000, max_tokens_per_turn=2_000)
    rollout, evaluation = await played(config, 1.0), await played(config, 0.0)
    (rl,) = samples_from_trajectory(rollout, 1.0, train=True)
    (demonstration,), (evaluated,) = sft_samples(rollout), sft_samples(evaluation)
    # evaluation
    assert evaluated.token_ids.tolist() == rl.token_ids.tolist()
    # SFT, from tokens as sampled
    assert demonstration.token_ids.tolist() == rl.token_ids.tolist()
    assert demonstration.loss_mask.tolist() == rl.loss_mask.tolist()
    # SFT, from the texts of the stored trajectory, through a file of chat samples
    tools = select_tools(config.tools)
    section = tool_section(tools, ACTION_FORMATS[action])
    system = PROMPTS[prompt].system.format(tool_section=section)
    texts = TrajectoryTexts("demo-1", 0, "lines", rollout.prompt, tuple(TurnTexts(t.text, t.observation) for t in rollout.turns))
    write_samples(tmp_path / "s.parquet", [sample_of_trajectory(texts, tool_schemas(tools), system, action)])
    (sample,) = read_samples(tmp_path / "s.parquet")
    messages = chat_messages(sample, action)  # type: ignore[arg-type]
    shown = sample.tools if action == "native" else ()  # type: ignore[union-attr]
    sft = conversation_sample(CHAT, messages, "demo-1", shown)
    assert sft.token_ids.tolist() == rl.token_ids.tolist()
    assert sft.loss_mask.tolist() == rl.loss_mask.tolist()
    # and rendered at once
    whole = tokenize_chat(messages, CHAT, shown)
    assert whole.token_ids.tolist()[:-1] == rl.token_ids.tolist()
    assert whole.loss_mask.tolist()[:-1] == rl.loss_mask.tolist()
