"""Audits: a scorer of known bias is noticed in time, a calibrated one is left alone."""

import numpy as np
import pytest

from verifier.audit import AuditRule, AuditState, after_audit, is_audited

RULE = AuditRule(base_share=0.1)


def audits_until_alarm(bias: float, seed: int, most: int = 2_000) -> int:
    """Audits until the first alarm for a scorer that promises `bias` more than is true; `most` when there is none."""
    rng = np.random.default_rng(seed)
    state = AuditState(RULE.base_share)
    for number in range(1, most + 1):
        true = rng.uniform(max(0.0, -bias), min(1.0, 1.0 - bias))
        state = after_audit(state, true + bias, bool(rng.random() < true), RULE)
        if state.num_alarms:
            assert state.share == 0.2
            return number
    return most


@pytest.mark.parametrize("bias", [0.3, -0.3, 0.5])
def test_a_known_bias_is_noticed_within_three_times_the_expected_number_of_audits(bias: float) -> None:
    needed = [audits_until_alarm(bias, seed) for seed in range(200)]
    expected = RULE.audits_until_noticed(bias)
    assert np.mean(needed) <= 1.5 * expected
    assert np.mean([number <= 3 * expected for number in needed]) >= 0.95


def test_a_calibrated_scorer_raises_few_alarms() -> None:
    assert np.median([audits_until_alarm(0.0, seed) for seed in range(40)]) > 400


def test_the_share_doubles_up_to_its_limit_and_comes_back() -> None:
    state = AuditState(RULE.base_share)
    for _ in range(200):
        state = after_audit(state, 1.0, False, RULE)
    assert (state.share, state.mean_residual) == (1.0, -1.0)
    for _ in range(4 * RULE.patience):
        state = after_audit(state, 1.0, True, RULE)
    assert state.share == pytest.approx(0.1)
    assert (state.num_audited, state.too_low) == (600, 0.0)


def test_a_bias_within_the_slack_is_never_noticed() -> None:
    with pytest.raises(ValueError, match="within the slack"):
        RULE.audits_until_noticed(0.05)


def test_who_is_audited_is_a_matter_of_names_and_grows_with_the_share() -> None:
    few = {index for index in range(4_000) if is_audited(0.1, 0, "task", str(index))}
    more = {index for index in range(4_000) if is_audited(0.2, 0, "task", str(index))}
    assert few < more
    assert len(few) == pytest.approx(400, abs=80)
    assert few != {index for index in range(4_000) if is_audited(0.1, 1, "task", str(index))}
