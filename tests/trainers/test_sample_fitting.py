"""Samples that cannot be trained on as they are: counted, cut or left out, never silently."""

import numpy as np
import pytest

from trainers.sample_building import prompt_completion_sample
from trainers.sample_fitting import check_token_ids, fit_samples

SHORT = prompt_completion_sample([1, 2], [3], "short")
LONG = prompt_completion_sample([1, 2], [3, 4, 5], "long")
LONG_PROMPT = prompt_completion_sample([1, 2, 3, 4, 5], [6], "prompt")
EMPTY = prompt_completion_sample([1, 2, 3], [], "empty")
FIRST_ONLY = prompt_completion_sample([], [7], "first")


def test_long_samples_are_dropped_or_cut() -> None:
    dropped = fit_samples([SHORT, LONG, LONG_PROMPT], 4)
    assert dropped.samples == (SHORT,)
    assert (dropped.num_dropped, dropped.num_cut, dropped.num_empty) == (2, 0, 0)
    cut = fit_samples([SHORT, LONG, LONG_PROMPT], 4, "cut")
    assert [sample.token_ids.tolist() for sample in cut.samples] == [[1, 2, 3], [1, 2, 3, 4]]
    assert cut.samples[1].loss_mask.tolist() == [0, 0, 1, 1]
    assert cut.metrics == {"dropped_samples": 0.0, "cut_samples": 2.0, "empty_samples": 1.0}


def test_samples_with_nothing_to_learn_are_left_out() -> None:
    assert fit_samples([SHORT, EMPTY, FIRST_ONLY], 4).num_empty == 2
    assert fit_samples([SHORT, EMPTY, FIRST_ONLY], 4, context_loss_weight=0.1).num_empty == 1


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="no sample to train on: 2 given, all longer than max_tokens=2"):
        fit_samples([LONG, LONG_PROMPT], 2)
    with pytest.raises(ValueError, match="no sample to train on: 1 given, 0 longer than max_tokens=9, 1 without a token"):
        fit_samples([EMPTY], 9)
    with pytest.raises(ValueError, match="no sample to train on: 0 given"):
        fit_samples([], 9)
    with pytest.raises(ValueError, match=r"sft\.overlong='trim' is not known; one of drop, cut"):
        fit_samples([SHORT], 9, "trim")


def test_tokens_of_another_tokenizer() -> None:
    check_token_ids([SHORT, LONG], 6)
    with pytest.raises(ValueError, match="sample 1 of long has token 5, the model's vocabulary ends at 5"):
        check_token_ids([SHORT, LONG], 5)
    with pytest.raises(ValueError, match="token -1"):
        check_token_ids([prompt_completion_sample([-1], [1], "odd")], 5)
    assert np.array_equal(SHORT.loss_mask, [0, 0, 1])
