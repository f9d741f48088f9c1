"""Loading for ZeRO-3: no rank holds the whole model, and the numbers are those of a whole load."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, Qwen2Config, Qwen2ForCausalLM

from trainers.partitioned_loading import load_partitioned, stored_tensors

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
    # Without this, small tensors that were let go would stay with the C library (larger than 32 MiB, they never do).
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "tests.trainers.partitioned_ranks", str(small), str(folder)]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(port)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
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
    stored = stored_tensors(large_model)
    assert len(stored) > 100
    assert len({tensor.file for tensor in stored.values()}) > 2
    size = sum(file.stat().st_size for file in large_model.glob("*.safetensors"))
    for rank in shared:
        assert rank["held"] == pytest.approx(size / 4 / 2, rel=0.01)
        assert rank["grown_mib"] < 0.75 * size / (1 << 20)  # its half and some parameters; a whole load takes all of it
    expected = sorted(float(tensor.read().double().sum()) for tensor in stored.values())
    assert sorted(shared[0]["sums"]) == pytest.approx(expected)
    assert shared[0]["sums"] == shared[1]["sums"]


def test_tensors_are_those_that_safetensors_reads(model_folder: Path, tmp_path: Path) -> None:
    stored, expected = stored_tensors(model_folder), load_file(model_folder / "model.safetensors")
    assert stored.keys() == expected.keys()
    assert all(torch.equal(stored[name].read(), values) for name, values in expected.items())
    save_file({"half": torch.arange(6).reshape(2, 3).bfloat16(), "empty": torch.zeros(0)}, tmp_path / "model.safetensors")
    half = stored_tensors(tmp_path)["half"].read()
    assert half.dtype == torch.bfloat16
    assert half.tolist() == [[0, 1, 2], [3, 4, 5]]
    save_file({"whole": torch.arange(3)}, tmp_path / "model.safetensors")
    assert stored_tensors(tmp_path) == {}


def test_a_cut_file_is_named(model_folder: Path, tmp_path: Path) -> None:
    whole = (model_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-4])
    last = max(stored_tensors(tmp_path).values(), key=lambda tensor: tensor.start)
    with pytest.raises(ValueError, match=r"model\.safetensors ends too early"):
        last.read()


def test_files_with_other_names_are_left_to_transformers(model_folder: Path, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(model_folder)
    config.save_pretrained(tmp_path)
    assert load_partitioned(tmp_path, config, torch.float32, "sdpa", {}) is None
    tensors = load_file(model_folder / "model.safetensors")
    save_file({f"other.{name}": values for name, values in tensors.items()}, tmp_path / "model.safetensors")
    assert load_partitioned(tmp_path, config, torch.float32, "sdpa", {}) is None
