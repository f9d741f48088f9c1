"""Combinations of world-model settings that could not act, or that name something unknown."""

from configs.run_config import RunConfig

CHOICES = {
    "world_model.context": ("deployable", "curator"),
    "world_model.form": ("compact", "full"),
    "world_model.reasoner": ("none", "scripted", "endpoint"),
    "world_model.calibration": ("none", "temperature", "platt", "isotonic"),
    "verifier.grader": ("tests", "hybrid"),
    "sandbox.files_in": ("process", "docker"),
}
ROLES = ("reward", "transition")
ANSWERS = {"reward": "max_report_tokens", "transition": "max_run_tokens"}
"""The setting of world_model that bounds a role's answers."""
SHORT_ANSWER = 1024
"""Tokens in which a general model hardly writes a simulation and a report."""


def uses_world_model(config: RunConfig) -> bool:
    """Whether rollouts need a served world model beside the policy."""
    return config.sandbox.backend == "simulated" or config.verifier.grader == "hybrid"


def simulation_problems(config: RunConfig) -> list[str]:
    """One line for everything that cannot be run as written; empty when all is well."""
    world, verifier = config.world_model, config.verifier
    found = []
    for key, names in CHOICES.items():
        section, _, field = key.partition(".")
        value = getattr(getattr(config, section), field)
        if value not in names:
            found.append(f"{key}={value} is not known; one of {', '.join(names)}")
    unknown = [role for role in world.roles if role not in ROLES]
    checks = [
        (bool(unknown) or not world.roles, f"world_model.roles={list(world.roles)}: use {' and/or '.join(ROLES)}"),
        (
            config.sandbox.backend == "simulated" and "transition" not in world.roles,
            "sandbox.backend=simulated needs transition in world_model.roles",
        ),
        (
            verifier.grader == "hybrid" and "reward" not in world.roles,
            "verifier.grader=hybrid needs reward in world_model.roles",
        ),
        (
            config.sandbox.backend == "simulated" and verifier.grader == "tests",
            "sandbox.backend=simulated cannot run hidden tests; set verifier.grader=hybrid (audits run in sandbox.files_in)",
        ),
        (
            world.reasoner == "endpoint" and not world.teacher.base_url,
            "world_model.reasoner=endpoint needs world_model.teacher.base_url",
        ),
        (not 0 <= world.calibration_share < 1, "world_model.calibration_share must be in [0, 1)"),
        (
            world.calibration != "none" and world.calibration_share == 0,
            f"world_model.calibration={world.calibration} needs world_model.calibration_share above 0",
        ),
        (min(config.tts.turn_budgets, default=1) < 1, "tts.turn_budgets must be 1 or more"),
        (config.tts.turn_budget_samples < 1, "tts.turn_budget_samples must be 1 or more"),
        (not 0 < verifier.audit_share <= 1, "verifier.audit_share must be in (0, 1]: without audits no drift is seen"),
    ]
    return found + window_problems(config) + [problem for broken, problem in checks if broken]


def window_problems(config: RunConfig) -> list[str]:
    """What does not fit between a world model's answers and the tokens that it holds."""
    world = config.world_model
    served, own = bool(world.endpoint.base_url), world.max_model_len
    if own < 0:
        return ["world_model.max_model_len must be 0 (that of the engines) or more"]
    if own and not served:
        return ["world_model.max_model_len is the limit of world_model.endpoint, which has no base_url; engines have their own"]
    limit = f"world_model.max_model_len={own}" if own else f"engine.max_model_len={config.engine.max_model_len}"
    hint = " (world_model.max_model_len is the endpoint's own limit)" if served and not own else ""
    return [
        f"world_model.{field}={getattr(world, field)} leaves no token of {limit} for a prompt: lower the first, or raise the "
        f"second{hint}"
        for role, field in ANSWERS.items()
        if role in world.roles and getattr(world, field) >= (own or config.engine.max_model_len)
    ]


def endpoint_advice(config: RunConfig) -> list[str]:
    """Settings that run, but rarely do what is meant with a world model behind an endpoint; a line each."""
    world, episode_s = config.world_model, config.rollout.episode.episode_timeout_s
    if not world.endpoint.base_url:
        return []
    found = []
    if config.sandbox.backend == "simulated" and world.endpoint.request_timeout_s >= episode_s:
        found.append(
            f"world_model.endpoint.request_timeout_s={world.endpoint.request_timeout_s:g} is not below rollout.episode."
            f"episode_timeout_s={episode_s:g}: an endpoint that hangs ends episodes as if they had run out of time"
        )
    if world.max_model_len == 0:
        found.append(
            f"prompts for world_model.endpoint are cut to engine.max_model_len={config.engine.max_model_len} tokens; "
            "world_model.max_model_len is its own limit"
        )
    if world.form == "compact":
        found.append(
            "world_model.form=compact does not say what to answer: right for a model that was trained on it; a general one needs "
            "world_model.form=full"
        )
        return found
    return found + [
        f"world_model.{field}={getattr(world, field)} is short: a general model writes its simulation first; 8,192 leave room"
        for role, field in ANSWERS.items()
        if role in world.roles and getattr(world, field) < SHORT_ANSWER
    ]
