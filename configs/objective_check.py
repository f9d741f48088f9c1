"""Combinations of the reinforcement-learning settings that could not act, or would act otherwise than they say."""

from configs.grpo_config import GRPOConfig
from configs.run_config import RunConfig
from configs.verifier_config import STOP_REASONS, VerifierConfig

CHOICES = {
    "initial_policy": ("sft", "base"),
    "advantage": ("leave_one_out", "group_mean", "group_mean_std"),
    "loss": ("clip_higher", "gspo", "cispo"),
    "aggregation": ("seq-mean-token-sum-norm", "seq-mean-token-sum", "seq-mean-token-mean", "token-mean"),
    "ratio_to": ("rollout", "learner"),
    "importance_weight": ("none", "token_truncated", "sequence_truncated", "band_pass"),
    "zero_spread_groups": ("keep", "drop", "replace"),
    "late_groups": ("cut", "mask", "drop"),
}
"""Names a GRPO setting may have; a test holds them against the registries."""

SCHEDULES = ("constant", "linear", "measured_share")
ALPHA_ROWS = {
    "submitted_last_tokens", "max_turns", "max_tokens", "context_full", "deadline", "no_call", "garbled"
}  # fmt: skip
"""Rows of the table swe_master whose factor is alpha; a test holds them equal."""
TABLES = ("swe_master", "deepswe", "swe_world", "outcome")
LOWEST_TEMPERATURE = 0.01
"""The engine samples nothing colder."""
LARGEST_SEQUENCE_CLIP = 0.05
"""A ratio averaged over a trajectory stays within a few per mille of 1; a wider clip would never act."""


def objective_problems(config: RunConfig) -> list[str]:
    """One line for everything that cannot be run as written; empty when all is well."""
    return [
        *_unknown_names(config),
        *_grpo_problems(config.grpo),
        *_group_problems(config.grpo),
        *_evaluation_problems(config),
        *_reward_problems(config.verifier),
    ]


def _unknown_names(config: RunConfig) -> list[str]:
    chosen = {f"grpo.{key}": (getattr(config.grpo, key), names) for key, names in CHOICES.items()}
    chosen["verifier.truncated_schedule"] = (config.verifier.truncated_schedule, SCHEDULES)
    chosen["verifier.reward"] = (config.verifier.reward, TABLES)
    return [
        f"{key}={value} is not known; one of {', '.join(names)}" for key, (value, names) in chosen.items() if value not in names
    ]


def _grpo_problems(grpo: GRPOConfig) -> list[str]:
    low, high = grpo.importance_band
    relative = grpo.ratio_to == "learner"
    checks = [
        (
            not grpo.temperature >= LOWEST_TEMPERATURE,
            f"grpo.temperature={grpo.temperature:g} must be at least {LOWEST_TEMPERATURE:g}: greedy episodes are all equal",
        ),
        (not 0 <= grpo.clip_low < 1 or grpo.clip_high < 0, "grpo.clip_low must be in [0, 1) and grpo.clip_high not negative"),
        (grpo.max_response_tokens < 1, "grpo.max_response_tokens must be at least 1: token sums are divided by it"),
        (
            grpo.loss == "gspo" and max(grpo.clip_low, grpo.clip_high) > LARGEST_SEQUENCE_CLIP,
            f"grpo.loss=gspo clips the mean ratio of a trajectory: clip_low={grpo.clip_low:g} and clip_high={grpo.clip_high:g} "
            "would never act; the paper has 3e-4 and 4e-4",
        ),
        (
            grpo.loss == "gspo" and grpo.aggregation != "seq-mean-token-mean",
            f"grpo.loss=gspo is a mean over trajectories: grpo.aggregation={grpo.aggregation} would weigh its ratio by length; "
            "use seq-mean-token-mean",
        ),
        (
            grpo.loss == "gspo" and grpo.learner.sequence_parallel > 1,
            "grpo.loss=gspo needs all tokens of a trajectory on one rank: set grpo.learner.sequence_parallel=1",
        ),
        (
            grpo.importance_weight != "none" and not relative,
            f"grpo.importance_weight={grpo.importance_weight} with grpo.ratio_to=rollout corrects the same difference twice: "
            "the ratio is already taken to the engine; set grpo.ratio_to=learner",
        ),
        (not 0 <= low <= 1 <= high, f"grpo.importance_band={low:g},{high:g} must hold 1, the weight of a token all agree on"),
        (grpo.importance_cap < 1, f"grpo.importance_cap={grpo.importance_cap:g} is below 1, the weight of a token all agree on"),
        (grpo.kl_coefficient < 0, "grpo.kl_coefficient must not be negative"),
        (
            grpo.kl_coefficient > 0 and not relative,
            "grpo.kl_coefficient needs the learner's own log-probs: set grpo.ratio_to=learner",
        ),
        (
            grpo.kl_coefficient > 0 and grpo.updates_per_batch > 1,
            "grpo.kl_coefficient is exact only where the ratio is 1: set grpo.updates_per_batch=1",
        ),
        (
            grpo.kl_coefficient > 0 and grpo.loss == "gspo",
            "grpo.kl_coefficient is a term per token and grpo.loss=gspo clips whole trajectories: use clip_higher or cispo",
        ),
        (
            grpo.kl_coefficient > 0 and grpo.learner.zero_stage == 3,
            "grpo.kl_coefficient keeps the first policy whole on every rank, which grpo.learner.zero_stage=3 is there to avoid",
        ),
    ]
    return [message for wrong, message in checks if wrong]


def _group_problems(grpo: GRPOConfig) -> list[str]:
    low, high = grpo.solve_rate_band
    checks = [
        (grpo.group_size < 2, f"grpo.group_size={grpo.group_size}: a group of one has advantage 0 and teaches nothing"),
        (grpo.groups_per_step < 1, "grpo.groups_per_step must be at least 1"),
        (
            not 1 <= grpo.updates_per_batch <= grpo.groups_per_step,
            f"grpo.updates_per_batch={grpo.updates_per_batch} must be between 1 and grpo.groups_per_step={grpo.groups_per_step}",
        ),
        (not 0 <= low <= high <= 1, f"grpo.solve_rate_band={low:g},{high:g} must be two rising shares"),
        (
            grpo.zero_spread_groups == "replace" and grpo.max_replacement_rounds < 1,
            "grpo.zero_spread_groups=replace needs grpo.max_replacement_rounds of at least 1",
        ),
        (grpo.max_flat_groups < 0, "grpo.max_flat_groups must not be negative"),
        (grpo.max_staleness < 0, "grpo.max_staleness must not be negative; 0 is synchronous"),
        (
            grpo.late_groups == "mask" and grpo.max_staleness == 0,
            "grpo.late_groups=mask lets a group train in a later step, which grpo.max_staleness=0 forbids: use cut or drop",
        ),
    ]
    return [message for wrong, message in checks if wrong]


def _evaluation_problems(config: RunConfig) -> list[str]:
    grpo = config.grpo
    checks = [
        (grpo.patience > 0 and grpo.eval_every < 1, "grpo.patience has no effect without evaluations: set grpo.eval_every"),
        (
            grpo.eval_every > 0 and min(grpo.eval_tasks, grpo.eval_samples) < 1,
            "grpo.eval_tasks and eval_samples must be positive",
        ),
        (
            grpo.eval_every > 0 and config.cluster.placement == "colocated",
            "grpo.eval_every plays beside the training, and with cluster.placement=colocated the engines sleep then: use split, "
            "or grpo.eval_every=0 and the verb eval",
        ),
        (grpo.learner_restarts < 0, "grpo.learner_restarts must not be negative; 0 ends the run when the learner dies"),
    ]
    return [message for wrong, message in checks if wrong]


def _reward_problems(verifier: VerifierConfig) -> list[str]:
    scheduled = verifier.truncated_schedule != "constant"
    replaced = {name for name, row in verifier.reward_rules.items() if row.factor == "alpha" and row.graded}
    uses_alpha = bool(replaced) or (verifier.reward == "swe_master" and not verifier.reward_rules.keys() >= ALPHA_ROWS)
    unknown = [name for name in verifier.reward_rules if name not in STOP_REASONS]
    texts = [str(row.factor) for row in verifier.reward_rules.values() if isinstance(row.factor, str) and row.factor != "alpha"]
    checks = [
        (bool(unknown), f"verifier.reward_rules: no stop reason {', '.join(unknown)}; one of {', '.join(STOP_REASONS)}"),
        (bool(texts), f"verifier.reward_rules: factor {', '.join(texts)} is neither a number nor alpha"),
        (not 0 <= verifier.truncated_factor <= 1, "verifier.truncated_factor must be within [0, 1]: a share of full credit"),
        (not 0 <= verifier.truncated_factor_end <= 1, "verifier.truncated_factor_end must be within [0, 1]"),
        (
            scheduled and not uses_alpha,
            f"verifier.truncated_schedule={verifier.truncated_schedule} has no effect: no row of verifier.reward="
            f"{verifier.reward} has the factor alpha",
        ),
        (
            verifier.truncated_schedule == "linear" and verifier.truncated_steps < 1,
            "verifier.truncated_schedule=linear needs verifier.truncated_steps of at least 1",
        ),
        (
            verifier.truncated_schedule == "measured_share" and verifier.truncated_window < 1,
            "verifier.truncated_schedule=measured_share needs verifier.truncated_window of at least 1",
        ),
    ]
    return [message for wrong, message in checks if wrong]
