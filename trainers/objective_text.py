"""The objective of a GRPO run as a formula with its numbers. No torch: `swe-master explain` answers at once."""

from configs.grpo_config import GRPOConfig
from configs.run_config import RunConfig
from configs.verifier_config import VerifierConfig
from verifier.rewards import REWARDS, RewardRule, reward_table

ADVANTAGE_TEXT = {
    "leave_one_out": "A_i = R_i - mean of the other members' R = G/(G-1) (R_i - mean R) with G = {size}; not divided by the std",
    "group_mean": "A_i = R_i - mean R over the group of {size}; not divided by the std",
    "group_mean_std": "A_i = (R_i - mean R) / (std R + 1e-6) over the group of {size}; std with n - 1",
}
LOSS_TEXT = {
    "clip_higher": "l_t = max(-A_t r_t, -A_t clip(r_t, {low:g}, {high:g}))",
    "gspo": "l_t = max(-A_t s, -A_t clip(s, {low:g}, {high:g})), s = exp(mean over the trajectory's tokens of log r_t)",
    "cispo": "l_t = -A_t stop_gradient(clip(r_t, {low:g}, {high:g})) log pi(t)",
}
AGGREGATION_TEXT = {
    "seq-mean-token-sum-norm": "L = 1/N sum_i 1/{l_max} sum_t l_it",
    "seq-mean-token-sum": "L = 1/N sum_i sum_t l_it",
    "seq-mean-token-mean": "L = 1/N sum_i 1/T_i sum_t l_it",
    "token-mean": "L = 1/M sum_i sum_t l_it",
}
COUNTED = {
    "token-mean": "M = trained tokens of the whole optimizer step (all micro-batches and ranks)",
}
NORMALISER = "N = trajectories with trained tokens in the whole optimizer step (all micro-batches and ranks)"
WEIGHT_TEXT = {
    "token_truncated": "A_t = A_i min(w_t, {cap:g})",
    "sequence_truncated": "A_t = A_i min(product of the trajectory's w, {cap:g})",
    "band_pass": "A_t = A_i w_t where {low:g} <= w_t <= {high:g}, else 0",
}
ZERO_SPREAD_TEXT = {
    "keep": "kept: no gradient, counted in the mean",
    "drop": "dropped: the mean is over the others",
    "replace": "dropped, and other tasks played in their place, {rounds} rounds at most",
}


def objective_text(config: RunConfig) -> str:
    """One line a part: what is played, what it is worth, what is minimised. Raises ValueError for an unknown reward table."""
    grpo = config.grpo
    lines = [
        ("minimised", AGGREGATION_TEXT[grpo.aggregation].format(l_max=f"{grpo.max_response_tokens:,}")),
        ("", COUNTED.get(grpo.aggregation, NORMALISER)),
        ("token loss", LOSS_TEXT[grpo.loss].format(low=1 - grpo.clip_low, high=1 + grpo.clip_high)),
        *_ratio_lines(grpo),
        ("advantage", ADVANTAGE_TEXT[grpo.advantage].format(size=grpo.group_size)),
        ("", "lost and masked members are in neither baseline nor loss; a group of one has advantage 0"),
        *_reward_lines(config.verifier),
        ("KL", f"+ {grpo.kl_coefficient:g} k3(pi | first policy) per token" if grpo.kl_coefficient else "none"),
        ("entropy", "no bonus"),
        *_group_lines(grpo),
        ("optimizer", _optimizer(grpo)),
    ]
    notes = objective_notes(grpo)
    width = max(len(name) for name, _ in lines)
    return "\n".join([f"{name:<{width}}  {text}" for name, text in lines] + [f"note: {note}" for note in notes])


def objective_notes(grpo: GRPOConfig) -> list[str]:
    """What a reader of the settings might not expect."""
    notes = []
    if grpo.temperature != 1:
        notes.append(
            f"all log-probs, the learner's too, are of softmax(logits / {grpo.temperature:g}), which the engine samples from"
        )
    if grpo.ratio_to == "learner" and grpo.updates_per_batch == 1:
        notes.append("one optimizer step per batch: the ratio is 1 when it is taken, so the clip does not act")
    if grpo.ratio_to == "rollout" and grpo.max_staleness == 0 and grpo.updates_per_batch == 1:
        notes.append("synchronous, one optimizer step per batch: the ratio differs from 1 only by the engine's arithmetic")
    if grpo.aggregation != "seq-mean-token-sum-norm":
        notes.append(f"max_response_tokens={grpo.max_response_tokens} (L_max) is not part of this aggregation")
    return notes


def _ratio_lines(grpo: GRPOConfig) -> list[tuple[str, str]]:
    if grpo.ratio_to == "rollout":
        return [("ratio", "r_t = exp(log pi(t) - log mu(t)), mu = the engine that sampled"), ("importance", "none: A_t = A_i")]
    ratio = ("ratio", "r_t = exp(log pi(t) - log pi_old(t)), pi_old = the learner before this batch")
    if grpo.importance_weight == "none":
        return [ratio, ("importance", "none: A_t = A_i; the engine's log-probs are not used")]
    low, high = grpo.importance_band
    text = WEIGHT_TEXT[grpo.importance_weight].format(cap=grpo.importance_cap, low=low, high=high)
    return [ratio, ("importance", f"{text}, w_t = pi_old(t) / mu(t), mu = the engine that sampled")]


def _reward_lines(verifier: VerifierConfig) -> list[tuple[str, str]]:
    rows = reward_table(verifier)
    lines = [("reward", f"{verifier.reward}{' with replaced rows' if rows != REWARDS[verifier.reward] else ''}, outcome 0 or 1:")]
    lines += [("", f"  {reason.value:<11} {_rule_text(rule)}") for reason, rule in rows.items()]
    if any(rule.factor == "alpha" and rule.graded for rule in rows.values()):
        lines.append(("", f"  alpha = {_alpha_text(verifier)}"))
    lines.append(("", "  infrastructure failures: played again, then left out and counted"))
    return lines


def _rule_text(rule: RewardRule) -> str:
    if not rule.train:
        return "masked: in neither baseline nor loss"
    if not rule.graded:
        return f"R = {rule.value:g}"
    return f"R = {rule.factor if rule.factor == 'alpha' else format(rule.factor, 'g')} x outcome"


def _alpha_text(verifier: VerifierConfig) -> str:
    if verifier.truncated_schedule == "linear":
        return (
            f"{verifier.truncated_factor:g} at step 0, {verifier.truncated_factor_end:g} from step "
            f"{verifier.truncated_steps} on, linear between"
        )
    if verifier.truncated_schedule == "measured_share":
        return (
            f"share of correct ones among the last {verifier.truncated_window} truncated episodes, at most "
            f"{verifier.truncated_factor_end:g} ({verifier.truncated_factor:g} before there are so many)"
        )
    return f"{verifier.truncated_factor:g}"


def _group_lines(grpo: GRPOConfig) -> list[tuple[str, str]]:
    episodes = grpo.groups_per_step * grpo.group_size
    low, high = grpo.solve_rate_band
    lines = [
        (
            "batch",
            f"{grpo.groups_per_step} tasks x {grpo.group_size} episodes = {episodes} trajectories, temperature "
            f"{grpo.temperature:g}, {grpo.updates_per_batch} optimizer step(s) on them, "
            f"at most {grpo.max_staleness} batches stale",
        ),
        ("flat groups", ZERO_SPREAD_TEXT[grpo.zero_spread_groups].format(rounds=grpo.max_replacement_rounds)),
    ]
    if grpo.max_flat_groups:
        lines.append(("", f"{grpo.max_flat_groups} of them in a row end the run"))
    if (low, high) != (0.0, 1.0):
        lines.append(("tasks", f"solve rate within {low:g} and {high:g} (once {grpo.solve_rate_episodes} episodes are graded)"))
    return lines


def _optimizer(grpo: GRPOConfig) -> str:
    optimizer = grpo.optimizer
    return (
        f"AdamW, rate {optimizer.learning_rate:g} {optimizer.schedule}, {optimizer.warmup_steps} warm-up steps, weight decay "
        f"{optimizer.weight_decay:g}, gradient norm clipped at {optimizer.max_grad_norm:g}"
        + (f", updates with a norm of {optimizer.skip_grad_norm:g} or more left out" if optimizer.skip_grad_norm else "")
    )
