"""What a training run takes, before anything starts: parameters, memory of each GPU, steps and hours. Pure arithmetic, no torch.

Memory follows ZeRO (arXiv 1910.02054): bytes per parameter of weights, gradients, master weights and AdamW's moments, each
divided by the ranks that share it. Time is an estimate from FLOPs and an assumed utilisation; nothing here is measured.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from configs.optimizer_config import LearnerConfig

GIB = 1 << 30
LOGITS_BYTES = 3 * (1 << 28)
"""One chunk of logits in float32 and its temporaries (trainers.token_logprobs)."""
RESERVE_BYTES = 4 * GIB
"""CUDA context, communication buffers and fragmentation; an allowance."""


class PlanError(ValueError):
    """A run that cannot be as it is configured; one line that says what to change."""


@dataclass(frozen=True)
class ModelShape:
    """What memory and time depend on."""

    hidden: int
    layers: int
    heads: int
    key_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool

    @property
    def layer_parameters(self) -> int:
        """Weight matrices of one decoder layer (norms and biases left out)."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.key_heads)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def num_parameters(self) -> int:
        return self.layers * self.layer_parameters + self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter_parameters(self, learner: LearnerConfig) -> int:
        """Of low-rank adapters on the configured layers."""
        query, key = self.heads * self.head_dim, self.key_heads * self.head_dim
        sizes = {
            "q_proj": self.hidden + query, "k_proj": self.hidden + key, "v_proj": self.hidden + key,
            "o_proj": query + self.hidden,
            "gate_proj": self.hidden + self.intermediate, "up_proj": self.hidden + self.intermediate,
            "down_proj": self.intermediate + self.hidden,
        }  # fmt: skip
        return learner.lora_rank * self.layers * sum(sizes.get(name, 0) for name in learner.lora_targets)


KNOWN_SHAPES = {
    "Qwen2.5-Coder-32B": ModelShape(5120, 64, 40, 8, 128, 27648, 152064, tied=False),
    "Qwen3-4B": ModelShape(2560, 36, 32, 8, 128, 9728, 151936, tied=True),
    "Qwen3-0.6B": ModelShape(1024, 28, 16, 8, 128, 3072, 151936, tied=True),
}
"""Published configurations, for plans on a machine without the model's folder; matched by the start of the folder's name."""


@dataclass(frozen=True)
class TrainingPlan:
    """Bytes on one GPU (or in host memory where offloaded) and the time of a run."""

    shape: ModelShape
    learner: LearnerConfig
    gpu_bytes: dict[str, float]
    host_bytes: float
    step_tokens: float
    num_steps: int
    tokens_per_s: float

    @property
    def hours(self) -> float:
        return self.step_tokens * self.num_steps / self.tokens_per_s / 3600


def read_shape(folder: Path) -> ModelShape:
    """The shape in a model folder's config.json, or the published one for a known name. Raises PlanError."""
    file = folder / "config.json"
    if not file.is_file():
        for name, shape in KNOWN_SHAPES.items():
            if folder.name.startswith(name):
                return shape
        raise PlanError(f"no {file}, and {folder.name!r} is none of {', '.join(KNOWN_SHAPES)}: give the model's folder")
    config = json.loads(file.read_text())
    heads = config["num_attention_heads"]
    return ModelShape(
        config["hidden_size"], config["num_hidden_layers"], heads, config.get("num_key_value_heads", heads),
        config.get("head_dim") or config["hidden_size"] // heads, config["intermediate_size"], config["vocab_size"],
        bool(config.get("tie_word_embeddings")),
    )  # fmt: skip


def plan_training(
    shape: ModelShape, learner: LearnerConfig, dtype: str, max_tokens: int, mean_tokens: float, batch_size: int, num_steps: int
) -> TrainingPlan:
    """Memory and time of a run on `learner.num_ranks` GPUs. Raises PlanError for heads that sequence parallelism cannot share.

    `max_tokens` is the longest sample; a row is that long or tokens_per_micro_batch, whichever is more.
    """
    size = learner.sequence_parallel
    if shape.heads % size or (shape.key_heads % size and size % shape.key_heads) or learner.num_ranks % size:
        raise PlanError(
            f"learner.sequence_parallel={size} divides not all of {shape.heads} heads, {shape.key_heads} key heads "
            f"and {learner.num_ranks} ranks"
        )
    row = max(max_tokens, learner.tokens_per_micro_batch) / size
    memory, host = _state_bytes(shape, learner, dtype)
    kept, working = _activation_bytes(shape, learner, row, 2 if dtype == "bfloat16" else 4)
    memory["activations kept"] = 0.0 if learner.activation_offload else kept
    memory["one layer's working memory"] = working
    memory["logits"] = float(LOGITS_BYTES)
    memory["reserve"] = float(RESERVE_BYTES)
    host += kept if learner.activation_offload else 0.0
    speed = learner.gpu_peak_tflops * 1e12 * learner.expected_mfu * learner.num_ranks / flops_per_token(shape, mean_tokens)
    return TrainingPlan(shape, learner, memory, host, mean_tokens * batch_size, num_steps, speed)


def flops_per_token(shape: ModelShape, tokens: float) -> float:
    """Model FLOPs of forward and backward per token of a sample of `tokens`: 6 per matrix weight, and 6 per causal key pair.

    Recomputation is not counted (that would be hardware FLOPs). The output layer counts for every token.
    """
    matrices = shape.layers * shape.layer_parameters + shape.vocabulary * shape.hidden
    return 6 * matrices + 6 * shape.layers * shape.heads * shape.head_dim * tokens


def _state_bytes(shape: ModelShape, learner: LearnerConfig, dtype: str) -> tuple[dict[str, float], float]:
    """Weights, gradients and optimizer on one GPU; and what of them lies in host memory, per rank."""
    stage, ranks = learner.zero_stage, learner.num_ranks
    trained = shape.adapter_parameters(learner) if learner.lora_rank else shape.num_parameters
    total = shape.num_parameters + (trained if learner.lora_rank else 0)
    item = 2 if dtype == "bfloat16" else 4
    weights = total * item / (ranks if stage == 3 else 1)
    gradients = trained * 4 / (ranks if stage >= 2 else 1)
    optimizer = trained * (12 if dtype == "bfloat16" else 8) / ranks
    largest_layer = max(shape.layer_parameters, shape.vocabulary * shape.hidden) * item * 2 if stage == 3 else 0.0
    host = (optimizer if learner.optimizer_offload else 0.0) + (weights if learner.parameter_offload else 0.0)
    return {
        "weights": 0.0 if learner.parameter_offload else weights,
        "layers being gathered": largest_layer,
        "gradients (float32)": gradients,
        "optimizer": 0.0 if learner.optimizer_offload else optimizer,
    }, host


def _activation_bytes(shape: ModelShape, learner: LearnerConfig, row: float, item: int) -> tuple[float, float]:
    """Kept for the backward pass, and needed while one layer computes; bytes, for a rank's stretch of a row."""
    heads = (2 * shape.heads + 2 * shape.key_heads) * shape.head_dim
    layer = row * item * (4 * shape.hidden + 2 * heads + 4 * shape.intermediate)
    kept = row * item * shape.hidden * shape.layers
    return (kept, 2 * layer) if learner.activation_checkpointing else (layer * shape.layers, layer)


def render_training_plan(name: str, plan: TrainingPlan, dtype: str, on_gpu: bool) -> str:
    """The plan as text: what takes how much and, on GPUs, how long it is expected to last."""
    learner = plan.learner
    groups = learner.num_ranks // learner.sequence_parallel
    of_all = f" of {learner.gpu_memory_gib:g}" if on_gpu else ""
    loading = loading_bytes(plan.shape, learner, dtype)
    time = (
        f"; expected {plan.tokens_per_s:,.0f} tokens/s, {plan.hours:,.1f} hours "
        f"(at {learner.expected_mfu:.0%} of {learner.gpu_peak_tflops:g} TFLOP/s a GPU: assumed)"
    )
    lines = [
        f"{name}: {plan.shape.num_parameters / 1e6:,.1f} M parameters, {dtype}, ZeRO-{learner.zero_stage}, "
        f"{learner.num_ranks} ranks = {groups} data-parallel x {learner.sequence_parallel} sequence-parallel",
        *(f"  {what:28s} {amount / GIB:8.2f} GiB per rank" for what, amount in plan.gpu_bytes.items()),
        f"  {'together':28s} {sum(plan.gpu_bytes.values()) / GIB:8.2f} GiB{of_all}",
        f"  {'host memory':28s} {plan.host_bytes / GIB:8.2f} GiB per rank, {loading / GIB:.2f} while the model is loaded",
        f"  {plan.num_steps} steps of {plan.step_tokens:,.0f} tokens{time if on_gpu else ''}",
    ]
    return "\n".join(lines)


def loading_bytes(shape: ModelShape, learner: LearnerConfig, dtype: str) -> int:
    """Host memory of a rank while the model is loaded: the largest parameter under ZeRO-3, else the whole model.

    >>> loading_bytes(KNOWN_SHAPES["Qwen3-4B"], LearnerConfig(zero_stage=3), "bfloat16")  # 151,936 words of 2,560 numbers
    777912320
    """
    largest = shape.hidden * max(shape.vocabulary, shape.intermediate, shape.heads * shape.head_dim)
    return (largest if learner.zero_stage == 3 else shape.num_parameters) * (2 if dtype == "bfloat16" else 4)


def require_fit(name: str, plan: TrainingPlan) -> None:
    """Raise PlanError when a GPU would need more memory than it has, with the settings that would help."""
    needed, learner = sum(plan.gpu_bytes.values()) / GIB, plan.learner
    if needed <= learner.gpu_memory_gib:
        return
    ideas = [
        (learner.zero_stage < 3, "learner.zero_stage=3"),
        (not learner.activation_checkpointing, "learner.activation_checkpointing=true"),
        (not learner.activation_offload, "learner.activation_offload=true"),
        (not learner.optimizer_offload, "learner.optimizer_offload=true"),
        (True, "more learner.num_ranks or learner.sequence_parallel"),
    ]
    raise PlanError(
        f"{name} does not fit: {needed:.1f} GiB of {learner.gpu_memory_gib:g} per GPU; "
        f"try {', '.join(idea for helps, idea in ideas if helps)}"
    )
