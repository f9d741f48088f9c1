"""The micro task generator: tasks are right (really executed), distinct, deterministic, and the splits do not touch."""

import ast
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from unidiff import PatchSet

from configs.tasks_config import MicroTasksConfig
from envpool.micro.micro_names import EXPLICIT_TEMPLATES, VAGUE_TEMPLATES, Split, function_names
from envpool.micro.micro_tasks import (
    ALL_CASES,
    TELLING_CASES,
    MicroTask,
    apply_operator,
    generate_micro_tasks,
    git_diff,
    micro_tasks_of_split,
)

SPLITS: tuple[Split, ...] = ("train", "validation", "heldout")
SMALL = MicroTasksConfig(num_train=6, num_heldout=3)


def functions_of(micro: MicroTask) -> set[tuple[str, tuple[str, ...]]]:
    """(function, arguments) pairs of a task's module."""
    (source,) = (text for path, text in micro.files.items() if not path.startswith("test_"))
    return {
        (node.name, tuple(a.arg for a in node.args.args)) for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)
    }


def template_pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{\w+\\}", r"\\w+", re.escape(template)))


def run_script(folder: Path, name: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-S", name], cwd=folder, capture_output=True, text=True, timeout=20)
    return done.returncode, (done.stdout + done.stderr).strip()


def write_tree(folder: Path, micro: MicroTask) -> None:
    for path, text in micro.files.items():
        (folder / path).write_text(text)
    (hidden,) = PatchSet(micro.task.oracle.test_patch)
    assert hidden.is_added_file
    (folder / hidden.path).write_text("".join(line.value for hunk in hidden for line in hunk))


@pytest.mark.parametrize("micro", list(generate_micro_tasks(SMALL, seed=3)), ids=lambda micro: micro.task.instance_id)
def test_bug_fails_and_gold_resolves(micro: MicroTask, tmp_path: Path) -> None:
    write_tree(tmp_path, micro)
    oracle = micro.task.oracle
    script = oracle.eval_script.split()[1]
    visible = next(path for path in micro.files if path.startswith("test_"))
    (failing,) = oracle.fail_to_pass
    function = failing.partition("::test_")[2]
    assert run_script(tmp_path, visible) == (1, f"failed {function}")
    code, log = run_script(tmp_path, script)
    assert code == 1
    assert re.fullmatch(rf"{function}\((\d+), (\d+)\) != \d+\? \w+ (\S+) \w+ = \1 \3 \2 = \d+", log.splitlines()[0])
    assert sorted(log.splitlines()[1:]) == sorted([f"FAILED {failing}", *(f"PASSED {test}" for test in oracle.pass_to_pass)])

    patch = PatchSet(oracle.gold_patch)
    assert (patch.added, patch.removed) == (1, 1)
    applied = subprocess.run(
        ["git", "apply", "-"], cwd=tmp_path, input=oracle.gold_patch, text=True, capture_output=True, timeout=20
    )
    assert applied.returncode == 0, applied.stderr
    assert run_script(tmp_path, visible) == (0, "passed")
    code, log = run_script(tmp_path, script)
    assert code == 0
    assert sorted(log.splitlines()[1:]) == sorted(f"PASSED {test}" for test in (failing, *oracle.pass_to_pass))


def test_broken_module_is_reported_by_the_error_name(tmp_path: Path) -> None:
    micro = next(generate_micro_tasks(SMALL, seed=3))
    write_tree(tmp_path, micro)
    module = next(path for path in micro.files if not path.startswith("test_"))
    (tmp_path / module).write_text("def broken(:\n")
    assert run_script(tmp_path, micro.task.oracle.eval_script.split()[1]) == (1, "SyntaxError")


def test_equal_seeds_give_equal_tasks_and_other_seeds_other_ones() -> None:
    first, again, other = (list(generate_micro_tasks(SMALL, seed)) for seed in (5, 5, 6))
    assert first == again
    assert not {micro.task.instance_id for micro in first} & {micro.task.instance_id for micro in other}


def test_counts_splits_and_distinct_instances() -> None:
    tasks = list(generate_micro_tasks(MicroTasksConfig(num_train=3000, num_heldout=500), seed=0))
    assert len({micro.task.instance_id for micro in tasks}) == 3500
    assert [micro.task.split for micro in tasks] == ["train"] * 3000 + ["heldout"] * 500
    assert all(micro.task.problem.image == f"folder:{micro.task.instance_id}" for micro in tasks)


def test_no_function_or_template_is_in_two_splits() -> None:
    names = {split: set(function_names(split)) for split in SPLITS}
    functions = {
        split: set().union(*(functions_of(micro) for micro in micro_tasks_of_split(split, 400, SMALL, seed=0)))
        for split in SPLITS
    }
    for split in SPLITS:
        assert {name for name, _ in functions[split]} <= names[split]
        statements = [micro.task.problem.problem_statement for micro in micro_tasks_of_split(split, 400, SMALL, seed=0)]
        for other in SPLITS:
            patterns = [template_pattern(t) for t in (*EXPLICIT_TEMPLATES[other], *VAGUE_TEMPLATES[other])]
            matching = sum(any(pattern.fullmatch(statement) for pattern in patterns) for statement in statements)
            assert matching == (400 if split == other else 0)
            if split != other:
                assert not names[split] & names[other]
                assert not functions[split] & functions[other]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 50)])
def test_explicit_share(share: float, expected: int) -> None:
    config = MicroTasksConfig(num_train=50, num_heldout=0, explicit_share=share)
    patterns = [template_pattern(template) for template in EXPLICIT_TEMPLATES["train"]]
    statements = [micro.task.problem.problem_statement for micro in generate_micro_tasks(config, seed=1)]
    assert sum(any(p.fullmatch(statement) for p in patterns) for statement in statements) == expected


def test_every_candidate_edit_is_unique_in_its_file() -> None:
    for micro in islice(generate_micro_tasks(MicroTasksConfig(), seed=0), 200):
        (source,) = (text for path, text in micro.files.items() if not path.startswith("test_"))
        for line in re.findall(r"return (.+)", source):
            a, _, b = line.split()
            for operator in ("+", "-", "*", "//", "%"):
                assert source.replace(line, f"{a} {operator} {b}").count(f"{a} {operator} {b}") == 1


def test_telling_cases_tell_all_operators_apart() -> None:
    assert (7, 2) in TELLING_CASES
    assert (7, 4) not in TELLING_CASES  # 7 - 4 == 7 % 4
    assert len(TELLING_CASES) < len(ALL_CASES)
    assert [apply_operator(operator, 7, 2) for operator in ("+", "-", "*", "//", "%")] == [9, 5, 14, 3, 1]


def test_git_diff_of_a_new_file() -> None:
    assert git_diff("a.py", None, "x = 1\n") == (
        "diff --git a/a.py b/a.py\nnew file mode 100644\n--- /dev/null\n+++ b/a.py\n@@ -0,0 +1 @@\n+x = 1\n"
    )


def test_too_many_functions_are_refused() -> None:
    with pytest.raises(ValueError, match="functions_per_file=9 is not between 1 and 8"):
        next(generate_micro_tasks(MicroTasksConfig(functions_per_file=9), seed=0))
