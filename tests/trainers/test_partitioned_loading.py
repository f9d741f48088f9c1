"""Loading for ZeRO-3: no rank holds the whole model, and the numbers are those of a whole load."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, Qwen2Config, Qwen2ForCausalLM

from trainers.partitioned_loading import load_partitioned, read_tensor, tensor_files

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def large_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 MiB in many parameters of at most 4 MiB, in several files."""
    folder = tmp_path_factory.mktemp("large")
    shape = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 10, "num_attention_heads": 8}
    config = Qwen2Config(vocab_size=512, num_key_value_heads=8, tie_word_embeddings=True, **shape)
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config)
    model = model.to_empty(device="cpu")
    model.tie_weights()
    for index, parameter in enumerate(model.parameters()):
        torch.nn.init.constant_(parameter, 0.001 * (index + 1))
    model.save_pretrained(folder, max_shard_size="50MB")
    return folder


def load_on_two_ranks(small: Path, folder: Path) -> list[dict[str, Any]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.trainers.partitioned_ranks", str(small), str(folder)]
    ranks = [
        subprocess.Popen([*command, str(rank), str(port)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=380) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    for rank, (_, errors) in zip(ranks, outputs, strict=True):
        assert rank.returncode == 0, errors[-3000:]
    return [json.loads(output.strip().splitlines()[-1]) for output, _ in outputs]


@pytest.mark.timeout(420)
def test_no_rank_holds_the_whole_model(large_model: Path, model_folder: Path) -> None:
    shared = load_on_two_ranks(model_folder, large_model)
    assert len(tensor_files(large_model)) > 100
    assert len(set(tensor_files(large_model).values())) > 2
    size = sum(file.stat().st_size for file in large_model.glob("*.safetensors"))
    for rank in shared:
        assert rank["held"] == pytest.approx(size / 4 / 2, rel=0.01)
        assert rank["grown_mib"] < 0.75 * size / (1 << 20)  # its half and some parameters; a whole load takes all of it
    names = list(dict.fromkeys(tensor_files(large_model)))
    expected = sorted(float(read_tensor(tensor_files(large_model)[name], name).double().sum()) for name in names)
    assert sorted(shared[0]["sums"]) == pytest.approx(expected)
    assert shared[0]["sums"] == shared[1]["sums"]


def test_files_with_other_names_are_left_to_transformers(model_folder: Path, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(model_folder)
    config.save_pretrained(tmp_path)
    assert load_partitioned(tmp_path, config, torch.float32, "sdpa", {}) is None
    tensors = load_file(model_folder / "model.safetensors")
    save_file({f"other.{name}": values for name, values in tensors.items()}, tmp_path / "model.safetensors")
    assert load_partitioned(tmp_path, config, torch.float32, "sdpa", {}) is None
