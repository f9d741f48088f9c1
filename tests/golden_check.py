"""Compare this project's advantages, losses, gradients and importance weights with a file of golden numbers.

    python -m tests.golden_check FILE [--json] [--tolerance 1e-6]

The file is JSON: `clip` (low, high, gspo) and `cases`; a case has `group_size`, `rewards` and `valid` (one per row), the
matrices `loss_mask`, `policy_logprobs`, `old_logprobs`, `rollout_logprobs` (rows x width), and what others computed from them:
`advantages`, `losses_with_leave_one_out` ("loss/aggregation" -> loss, grad), `weights_old_over_rollout`, `k3`. Numbers go
through the product's own path: samples, token weights, token losses, one normaliser; torch does the gradient in float64.

Exit code 0: every known quantity within the tolerance; 1: one is not, or the file holds nothing to compare; 2: not such a file.
Quantities that this project does not compute are named in `unknown`.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.advantages import ADVANTAGES
from trainers.advantages.leave_one_out import leave_one_out_baseline
from trainers.importance_weights import BandPass, ImportanceWeight, SequenceTruncated, TokenTruncated, log_weights
from trainers.kl_penalty import k3
from trainers.loss_aggregation import AGGREGATIONS
from trainers.loss_spec import POLICY_LOSSES, LossSpec
from trainers.losses import LOSSES
from trainers.train_sample import TrainSample

TOLERANCE = 1e-6
MATRICES = ("loss_mask", "policy_logprobs", "old_logprobs", "rollout_logprobs")
INPUTS = {"seed", "group_size", "rewards", "valid", *MATRICES}
NUMBER = r"(\d+(?:\.\d+)?)"
WEIGHTS: dict[str, Callable[..., ImportanceWeight]] = {
    rf"tis_token_{NUMBER}": TokenTruncated,
    rf"tis_sequence_{NUMBER}": SequenceTruncated,
    rf"icepop_{NUMBER}_{NUMBER}": BandPass,
}


class GoldenFileError(ValueError):
    """The file is not of this format; one line that says where."""


@dataclass
class Comparison:
    """Largest absolute difference per quantity over all cases; NaN when one of the two sides is not finite."""

    max_abs_error: dict[str, float] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    def add(self, name: str, ours: Any, expected: Any) -> None:
        ours, expected = np.asarray(ours, dtype=np.float64), _numbers(expected, name)
        if ours.shape != expected.shape:
            raise GoldenFileError(f"{name} has shape {expected.shape}, its inputs give {ours.shape}")
        error = float(np.abs(ours - expected).max(initial=0.0))
        before = self.max_abs_error.get(name, 0.0)
        self.max_abs_error[name] = math.nan if math.isnan(error) or math.isnan(before) else max(error, before)

    def failed(self, tolerance: float) -> list[str]:
        return [name for name, error in self.max_abs_error.items() if not error <= tolerance]


@dataclass(frozen=True)
class Inputs:
    """One case's inputs: R rows (trajectories) of T tokens."""

    group_size: int
    rewards_R: np.ndarray
    valid_R: np.ndarray
    mask_RT: np.ndarray
    policy_RT: np.ndarray
    old_RT: np.ndarray
    rollout_RT: np.ndarray

    def by_group(self, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """`function(rewards_G, valid_G)` of every group, concatenated."""
        groups = (self.rewards_R.reshape(-1, self.group_size), self.valid_R.reshape(-1, self.group_size))
        return np.concatenate([function(rewards_G, valid_G) for rewards_G, valid_G in zip(*groups, strict=True)])


def compare_file(path: Path) -> tuple[Comparison, int]:
    """The comparison and the number of cases. Raises GoldenFileError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise GoldenFileError(f"cannot read {path}: {error}") from error
    cases = data.get("cases") if isinstance(data, dict) else None
    if not isinstance(cases, list) or not cases or not all(isinstance(case, dict) for case in cases):
        raise GoldenFileError(f"{path} has no list `cases` of objects; it is no file of golden numbers")
    comparison = Comparison()
    for index, case in enumerate(cases):
        try:
            compare_case(case, data.get("clip"), comparison)
        except GoldenFileError as error:
            raise GoldenFileError(f"{path}: case {index}: {error}") from error
    return comparison, len(cases)


def compare_case(case: Mapping[str, Any], clip: Any, comparison: Comparison) -> None:
    inputs = read_inputs(case)
    for key in case.keys() - INPUTS:
        values = case[key]
        if key == "k3":
            masked = inputs.mask_RT != 0
            ours = k3(np.where(masked, inputs.policy_RT, 0), np.where(masked, inputs.old_RT, 0))
            comparison.add("k3", np.where(masked, ours, 0), values)
        elif key == "advantages":
            for name, expected in _entries(values, key):
                _compare_advantages(inputs, name, expected, comparison)
        elif key == "losses_with_leave_one_out":
            for name, expected in _entries(values, key):
                _compare_loss(inputs, name, expected, clip, comparison)
        elif key == "weights_old_over_rollout":
            for name, expected in _entries(values, key):
                _compare_weights(inputs, name, expected, comparison)
        else:
            comparison.unknown.add(key)


def read_inputs(case: Mapping[str, Any]) -> Inputs:
    """Raises GoldenFileError for what is missing or has the wrong shape."""
    missing = [name for name in ("group_size", "rewards", *MATRICES) if name not in case]
    if missing:
        raise GoldenFileError(f"lacks {', '.join(missing)}")
    size, rewards = case["group_size"], _numbers(case["rewards"], "rewards")
    valid = _numbers(case.get("valid", np.ones(len(rewards))), "valid")
    matrices = [_numbers(case[name], name) for name in MATRICES]
    if not isinstance(size, int) or size < 1 or rewards.ndim != 1 or len(rewards) % size:
        raise GoldenFileError(f"{rewards.shape} rewards are not whole groups of {size}")
    if valid.shape != rewards.shape:
        raise GoldenFileError(f"valid has shape {valid.shape}, rewards {rewards.shape}")
    for name, matrix in zip(MATRICES, matrices, strict=True):
        if matrix.ndim != 2 or matrix.shape != matrices[0].shape or len(matrix) != len(rewards):
            raise GoldenFileError(f"{name} has shape {matrix.shape}, expected one row per reward and one width")
    return Inputs(size, rewards, valid != 0, *matrices)


def _compare_advantages(inputs: Inputs, name: str, expected: Any, comparison: Comparison) -> None:
    if name == "leave_one_out_baseline_valid_only":
        ours = inputs.by_group(leave_one_out_baseline)
    elif name in ADVANTAGES:
        ours = inputs.by_group(lambda rewards_G, _: ADVANTAGES[name](rewards_G))
    else:
        comparison.unknown.add(f"advantages/{name}")
        return
    comparison.add(f"advantages/{name}", ours, expected)


def _compare_loss(inputs: Inputs, name: str, expected: Any, clip: Any, comparison: Comparison) -> None:
    loss_name, _, aggregation = name.partition("/")
    quantity = f"losses_with_leave_one_out/{name}"
    if loss_name not in POLICY_LOSSES or aggregation not in AGGREGATIONS:
        comparison.unknown.add(quantity)
        return
    try:
        low, high = clip["gspo"] if loss_name == "gspo" else (clip["low"], clip["high"])
        spec = LossSpec(loss_name, float(low), float(high), inputs.mask_RT.shape[1], aggregation=aggregation)
        expected_loss, expected_grad = expected["loss"], expected["grad"]
    except (KeyError, TypeError, ValueError) as error:
        raise GoldenFileError(f"{quantity}: needs `clip` with low, high, gspo, and `loss` and `grad` ({error!r})") from error
    loss, grad = loss_and_grad(inputs, spec)
    comparison.add(f"{quantity}/loss", loss, expected_loss)
    comparison.add(f"{quantity}/grad", grad, expected_grad)
    comparison.unknown |= {f"{quantity}/{key}" for key in expected.keys() - {"loss", "grad"}}


def loss_and_grad(inputs: Inputs, spec: LossSpec) -> tuple[float, np.ndarray]:
    """The step's loss and its gradient with respect to the policy's log-probs (R, T), in float64, with leave-one-out."""
    loss = LOSSES[spec.name](spec)
    advantages_R = inputs.by_group(lambda rewards_G, _: ADVANTAGES["leave_one_out"](rewards_G))
    samples = [
        TrainSample(
            token_ids=np.zeros(mask.shape, np.int32),
            loss_mask=(mask != 0).astype(np.int8),
            rollout_logprobs=old,
            advantages=mask * advantage,
            policy_versions=np.zeros(mask.shape, np.int32),
            group="golden",
        )
        for mask, old, advantage in zip(inputs.mask_RT, inputs.old_RT, advantages_R, strict=True)
    ]
    weights_RT = np.stack([loss.weights(sample).astype(np.float64) for sample in samples])
    rows, columns = np.nonzero(weights_RT)  # as trainers.packing: a token of weight 0 is not computed
    policy = torch.from_numpy(inputs.policy_RT.copy()).requires_grad_()
    token_losses = loss.token_losses(
        policy[rows, columns],
        torch.from_numpy(inputs.old_RT[rows, columns]),
        torch.from_numpy(advantages_R[rows]),
        torch.from_numpy(rows),
    )
    normaliser = max(sum(loss.normaliser(sample) for sample in samples), 1.0)
    total = (token_losses * torch.from_numpy(weights_RT[rows, columns])).sum() / normaliser
    (grad,) = torch.autograd.grad(total, policy)
    return float(total.detach()), grad.numpy()


def _compare_weights(inputs: Inputs, name: str, expected: Any, comparison: Comparison) -> None:
    quantity = f"weights_old_over_rollout/{name}"
    for pattern, weight in WEIGHTS.items():
        if match := re.fullmatch(pattern, name):
            function = weight(*map(float, match.groups()))
            rows = zip(inputs.mask_RT != 0, inputs.old_RT, inputs.rollout_RT, strict=True)
            ours = [function(log_weights(old, rollout, mask), mask) for mask, old, rollout in rows]
            comparison.add(quantity, np.stack(ours), expected)
            return
    comparison.unknown.add(quantity)


def _entries(values: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(values, dict):
        raise GoldenFileError(f"{name} must be an object of named quantities")
    yield from values.items()


def _numbers(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise GoldenFileError(f"{name} is not an array of numbers ({error})") from error


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden_check", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="largest absolute difference that passes")
    options = parser.parse_args(arguments)
    try:
        comparison, num_cases = compare_file(options.file)
    except GoldenFileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    errors = dict(sorted(comparison.max_abs_error.items()))
    failed, unknown = comparison.failed(options.tolerance), sorted(comparison.unknown)
    passed = bool(errors) and not failed
    if options.json:
        shown = {name: None if math.isnan(error) else error for name, error in errors.items()}
        report = {"file": str(options.file), "cases": num_cases, "tolerance": options.tolerance, "passed": passed}
        print(json.dumps({**report, "max_abs_error": shown, "failed": failed, "unknown": unknown}, indent=1))
    else:
        for name, error in errors.items():
            print(f"{error:10.2e}  {'above tolerance' if name in failed else 'ok':15}  {name}")
        for name in unknown:
            print(f"{'':10}  {'unknown':15}  {name}")
        print(f"{num_cases} cases, {len(errors)} quantities, {len(failed)} above {options.tolerance:g}, {len(unknown)} unknown")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
