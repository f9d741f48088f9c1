"""The answer to a task: reference patch and hidden tests. Agent-side code and selection must not import this module."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Oracle:
    """What decides whether a patch resolves an issue (fields as in SWE-bench).

    `test_patch` is a unified diff that adds or changes the hidden tests; `eval_script` is a POSIX shell script, run in the
    workdir, that runs them and prints a log which the parser named `log_parser` reads.
    """

    instance_id: str
    gold_patch: str
    test_patch: str
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    eval_script: str
    log_parser: str
    timeout_s: float
