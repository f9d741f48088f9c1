"""However ranks share the work, they do what one rank does: ZeRO stages, sequence parallelism, resume on another number."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from tests.actors.random_qwen import write_random_qwen
from tests.trainers.learner_processes import BUCKET_BYTES, LENGTHS, Variant, run_ranks, train
from trainers.deepspeed_learner import LearnerError

pytestmark = pytest.mark.timeout(1300)
"""For the fixtures' processes on a busy machine; a quiet one needs under a minute."""
TWO = [Variant(1), Variant(2), Variant(3), Variant(3, sequence_parallel=2), Variant(2, lora_rank=2)]
EXACT = [variant for variant in TWO if not variant.lora_rank]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def four_heads(work: Path) -> Path:
    return write_random_qwen(work / "model", seed=0, hidden=128)


@pytest.fixture(scope="module")
def together(four_heads: Path, work: Path) -> dict[Variant, list[dict[str, Any]]]:
    """What each of two ranks saw."""
    ranks = run_ranks(four_heads, work, TWO, world_size=2)
    return {variant: [rank[index] for rank in ranks] for index, variant in enumerate(TWO)}


@pytest.fixture(scope="module")
def alone(four_heads: Path, work: Path, together: Any) -> dict[str, Any]:
    """What one rank saw, in this process, ZeRO stage 1; at its end it goes on from a checkpoint that two ranks wrote."""
    checkpoint = work / f"checkpoint_2_{Variant(1).name}" / "step_3"
    return train(four_heads, work, Variant(1, resume=str(checkpoint)), rank=0, world_size=1, port=0)


@pytest.fixture(scope="module")
def four(four_heads: Path, work: Path, together: Any) -> dict[Variant, dict[str, Any]]:
    """What the first of four ranks saw: Ulysses over two and over four of them, going on from what two ranks wrote."""
    checkpoint = str(work / f"checkpoint_2_{Variant(1).name}" / "step_3")
    variants = [
        Variant(1, sequence_parallel=2, resume=checkpoint),
        Variant(3, sequence_parallel=4, resume=checkpoint.replace(Variant(1).name, Variant(3).name)),
    ]
    return dict(zip(variants, run_ranks(four_heads, work, variants, world_size=4)[0], strict=True))


def assert_equal_steps(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-4, abs=1e-6)


@pytest.mark.parametrize("variant", EXACT, ids=lambda variant: variant.name)
def test_two_ranks_equal_one(alone: dict[str, Any], together: dict[Variant, Any], variant: Variant) -> None:
    first, second = together[variant]
    assert first["metrics"] == second["metrics"]
    assert_equal_steps(first["metrics"], alone["metrics"])
    shared = [0.0] * len(LENGTHS)
    groups = 2 // variant.sequence_parallel
    for group, seen in enumerate((first, second)[:groups]):
        shared[group::groups] = seen["logprobs"]
    assert shared == pytest.approx(alone["logprobs"], rel=1e-3)


@pytest.mark.parametrize("variant", TWO, ids=lambda variant: variant.name)
def test_weights_leave_in_buckets_and_no_rank_holds_more_than_one(together: dict[Variant, Any], variant: Variant) -> None:
    for seen in together[variant]:
        buckets = seen["buckets"]
        assert buckets["names"] == [name for name, _ in buckets["shapes"]] == seen["names"]
        assert len(buckets["sizes"]) > 3
        assert max(buckets["sizes"]) <= BUCKET_BYTES
        if variant.stage == 3:
            assert buckets["before"] == buckets["after"] == 0
            assert buckets["within"] == buckets["sizes"]  # on every rank, one bucket and nothing else


def test_four_ranks_equal_one(alone: dict[str, Any], four: dict[Variant, Any]) -> None:
    for seen in four.values():
        assert_equal_steps(seen["metrics"], alone["metrics"])


@pytest.mark.parametrize("variant", TWO, ids=lambda variant: variant.name)
def test_steps_after_loading_are_bit_equal(together: dict[Variant, Any], variant: Variant) -> None:
    for seen in together[variant]:
        assert seen["again"] == seen["following"]
        assert [row["step"] for row in seen["again"]] == [4, 5]
        assert seen["state"] == {"note": variant.stage}
        assert seen["debris"] == ["step_3"]


def test_another_number_of_ranks_goes_on_from_the_same_state(alone: dict[str, Any], four: dict[Variant, Any]) -> None:
    """Two ranks wrote; one and four read. The second step after loading shows that the optimizer's moments came along."""
    assert_equal_steps(alone["resumed"], alone["following"])
    assert alone["resumed_state"] == {"note": 1}
    for variant, seen in four.items():
        assert_equal_steps(seen["resumed"], alone["following"])
        assert seen["resumed_state"] == {"note": variant.stage}


@pytest.mark.parametrize("variant", EXACT, ids=lambda variant: variant.name)
def test_exports_of_one_and_two_ranks_hold_the_same_weights(
    alone: dict[str, Any], together: dict[Variant, Any], work: Path, variant: Variant
) -> None:
    folders = (work / f"hf_1_{Variant(1).name}", work / f"hf_2_{variant.name}")
    one, two = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in folders)
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 3e-4
    assert together[variant][0]["names"] == alone["names"]


def test_a_checkpoint_of_another_zero_stage_is_refused(alone: dict[str, Any], four_heads: Path, work: Path) -> None:
    checkpoint = work / f"checkpoint_2_{Variant(3).name}" / "step_3"
    with pytest.raises(LearnerError, match=r"written with learner\.zero_stage=3, this run has 1"):
        train(four_heads, work, Variant(1, resume=str(checkpoint)), rank=0, world_size=1, port=0)
