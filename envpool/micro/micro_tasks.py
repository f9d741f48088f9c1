"""Seeded generator of micro-SWE tasks: a module of one-expression functions, one of them with a wrong operator.

The repository is `<module>.py` and `test_<module>.py`; the latter prints `passed`, or `failed <function>` with exit code 1.
Hidden tests call the functions with other inputs. Their script first evaluates the broken function step by step for the visible
test's input (a world model can foresee that line, and reasons by writing it), then prints a pytest-style line per function, that
of the broken function first:

    merge_area(7, 2) != 14? w + h = 7 + 2 = 9
    FAILED hidden_test_shapes.py::test_merge_area
    PASSED hidden_test_shapes.py::test_scale_price

Names and issue templates of held-out tasks never occur in training tasks (envpool.micro.micro_names).
"""

import difflib
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from configs.tasks_config import MicroTasksConfig
from envpool.micro.micro_names import (
    ARGUMENTS,
    EXPLICIT_TEMPLATES,
    MODULES,
    OPERATOR_INFIX,
    OPERATOR_NOUNS,
    OPERATORS,
    VAGUE_TEMPLATES,
    VERBS,
    Split,
    function_names,
)
from envpool.oracle import Oracle
from envpool.problem import Problem
from envpool.task import Task

WORKDIR = "/testbed"
COINCIDENCE_SHARE = 0.05  # visible tests that a wrong operator may pass
HIDDEN_CASES = 2
MAX_FUNCTIONS = 8


@dataclass(frozen=True)
class MicroTask:
    """A task and the files of its repository (path relative to the workdir -> text)."""

    task: Task
    files: dict[str, str] = field(hash=False)


@dataclass(frozen=True)
class MicroFunction:
    """One function of a module: `def name(a, b): return a operator b`, and the inputs it is tested with."""

    name: str
    arguments: tuple[str, str]
    operator: str
    visible_case: tuple[int, int]
    hidden_cases: tuple[tuple[int, int], ...]

    def source(self, operator: str) -> str:
        first, second = self.arguments
        return f"def {self.name}({first}, {second}):\n    return {first} {operator} {second}\n"


def apply_operator(operator: str, a: int, b: int) -> int:
    """Value of `a operator b`.

    >>> apply_operator("//", 7, 2)
    3
    """
    return {"+": a + b, "-": a - b, "*": a * b, "//": a // b, "%": a % b}[operator]


def operators_differ(a: int, b: int) -> bool:
    """Whether all five operators give different values, so that one call tells them apart."""
    return len({apply_operator(operator, a, b) for operator in OPERATORS}) == len(OPERATORS)


ALL_CASES = tuple((a, b) for b in range(2, 6) for a in range(b + 1, 16))
TELLING_CASES = tuple(case for case in ALL_CASES if operators_differ(*case))


def generate_micro_tasks(config: MicroTasksConfig, seed: int) -> Iterator[MicroTask]:
    """`config.num_train` training tasks, then `config.num_heldout` held-out tasks, all distinct; equal seeds give equal tasks."""
    yield from micro_tasks_of_split("train", config.num_train, config, seed)
    yield from micro_tasks_of_split("heldout", config.num_heldout, config, seed)


def micro_tasks_of_split(split: Split, count: int, config: MicroTasksConfig, seed: int) -> Iterator[MicroTask]:
    """`count` distinct tasks of one split. Raises ValueError when a file cannot have so many functions."""
    if not 1 <= config.functions_per_file <= MAX_FUNCTIONS:
        raise ValueError(f"functions_per_file={config.functions_per_file} is not between 1 and {MAX_FUNCTIONS}")
    rng = random.Random(f"micro-tasks/{seed}/{split}")
    names = tuple(function_names(split))
    seen: set[str] = set()
    while len(seen) < count:
        micro = _draw_task(config, split, names, rng)
        if micro.task.instance_id not in seen:
            seen.add(micro.task.instance_id)
            yield micro


def _draw_task(config: MicroTasksConfig, split: Split, names: tuple[str, ...], rng: random.Random) -> MicroTask:
    module = rng.choice(MODULES)
    functions = _draw_functions(config.functions_per_file, names, rng)
    broken = rng.randrange(len(functions))
    target = functions[broken]
    right_value = apply_operator(target.operator, *target.visible_case)
    bug = rng.choice([wrong for wrong in OPERATORS if apply_operator(wrong, *target.visible_case) != right_value])
    explicit = rng.random() < config.explicit_share
    template = rng.choice((EXPLICIT_TEMPLATES if explicit else VAGUE_TEMPLATES)[split])
    statement = template.format(
        f=target.name,
        m=module,
        a=target.arguments[0],
        b=target.arguments[1],
        noun=OPERATOR_NOUNS[target.operator],
        infix=OPERATOR_INFIX[target.operator],
    )
    fixed = module_text(functions)
    buggy = module_text(functions, {broken: bug})
    visible = visible_test_text(module, functions)
    digest = hashlib.sha256("\n".join((statement, buggy, visible, target.operator)).encode()).hexdigest()[:10]
    instance_id = f"micro__{module}-{digest}"
    hidden_name = f"hidden_test_{module}.py"
    tests = {function.name: f"{hidden_name}::test_{function.name}" for function in functions}
    task = Task(
        problem=Problem(instance_id, f"micro/{module}", "HEAD", f"folder:{instance_id}", WORKDIR, statement),
        oracle=Oracle(
            instance_id=instance_id,
            gold_patch=git_diff(f"{module}.py", buggy, fixed),
            test_patch=git_diff(hidden_name, None, hidden_test_text(module, functions, target)),
            fail_to_pass=(tests[target.name],),
            pass_to_pass=tuple(test for name, test in tests.items() if name != target.name),
            eval_script=f"python3 {hidden_name}\n",
            log_parser="parse_log_pytest",
            timeout_s=10.0,
        ),
        source="micro",
        split=split,
        language="python",
        licence="Apache-2.0",
        raw="",
    )
    return MicroTask(task, {f"{module}.py": buggy, f"test_{module}.py": visible})


def _draw_functions(count: int, names: tuple[str, ...], rng: random.Random) -> tuple[MicroFunction, ...]:
    """Functions whose verbs, nouns and arguments all differ, so that one word finds a function and one expression a line."""
    arguments = _draw_arguments(count, rng)
    verbs = rng.sample(VERBS, count)
    chosen: list[str] = []
    used_nouns: set[str] = set()
    for verb in verbs:
        candidates = [name for name in names if name.startswith(f"{verb}_") and name.partition("_")[2] not in used_nouns]
        name = rng.choice(candidates)
        used_nouns.add(name.partition("_")[2])
        chosen.append(name)
    functions = []
    for name, pair in zip(chosen, arguments, strict=True):
        telling = rng.random() >= COINCIDENCE_SHARE
        visible = rng.choice(TELLING_CASES if telling else ALL_CASES)
        hidden = rng.sample([case for case in TELLING_CASES if case != visible], HIDDEN_CASES)
        functions.append(MicroFunction(name, pair, rng.choice(OPERATORS), visible, tuple(hidden)))
    return tuple(functions)


def _draw_arguments(count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Argument pairs, none of whose expressions is part of another's (`w * h` of `low * high`): an edit must match once."""
    while True:
        arguments = rng.sample(ARGUMENTS, count)
        expressions = [f"{a} {b}" for a, b in arguments]
        if not any(x != y and x in y for x in expressions for y in expressions):
            return arguments


def module_text(functions: tuple[MicroFunction, ...], operators: dict[int, str] | None = None) -> str:
    """The module; `operators` replaces the right operator of a function by index."""
    operators = operators or {}
    return "\n\n".join(function.source(operators.get(index, function.operator)) for index, function in enumerate(functions))


def visible_test_text(module: str, functions: tuple[MicroFunction, ...]) -> str:
    """The test script the agent can run: one call per function.

    It writes no bytecode: two edits of equal size within a second would otherwise run stale code.
    """
    names = ", ".join(function.name for function in functions)
    lines = ["import sys", "", "sys.dont_write_bytecode = True", f"from {module} import {names}", ""]
    for function in functions:
        a, b = function.visible_case
        value = apply_operator(function.operator, a, b)
        lines += [f"if {function.name}({a}, {b}) != {value}:", f"    raise SystemExit('failed {function.name}')"]
    lines.append("print('passed')")
    return "\n".join(lines) + "\n"


def hidden_test_text(module: str, functions: tuple[MicroFunction, ...], target: MicroFunction) -> str:
    """The hidden script: `HIDDEN_CASES` calls per function, preceded by the target's value for the visible input.

    The code under test runs in a fork without output: it answers calls and cannot print results, and the wanted values are
    compared in the parent. Code that leaves before it has answered has failed.
    """
    a, b = target.visible_case
    wanted = apply_operator(target.operator, a, b)
    ordered = sorted(functions, key=lambda function: function.name != target.name)
    calls = [(target.name, a, b), *((function.name, *case) for function in ordered for case in function.hidden_cases)]
    first, second = target.arguments
    lines = ["import ast", "import os", "", f"CALLS = {calls!r}", "", "", *_FORKED_ANSWERS.format(module=module).splitlines()]
    lines += [f'with open("{module}.py") as file:']
    lines += [f'    body = file.read().partition("def {target.name}({first}, {second}):\\n    return ")[2].partition("\\n")[0]']
    lines += [f'values = body.replace("{first}", "{a}").replace("{second}", "{b}")', "value, *found = answers()"]
    lines += [f'print(f"{target.name}({a}, {b}) != {wanted}? {{body}} = {{values}} = {{value}}")', "failed = 0"]
    for function in ordered:
        right = [apply_operator(function.operator, *case) for case in function.hidden_cases]
        test = f"hidden_test_{module}.py::test_{function.name}"
        lines += [f"ok = found[:{len(right)}] == {right!r}", f"found = found[{len(right)}:]"]
        lines += [f"print('PASSED' if ok else 'FAILED', '{test}')", "failed += not ok"]
    lines.append("raise SystemExit(failed)")
    return "\n".join(lines) + "\n"


_FORKED_ANSWERS = """def call(module, name, a, b):
    try:
        value = getattr(module, name)(a, b)
        return value if type(value) in (int, float, bool) else str(type(value))
    except Exception as error:
        return type(error).__name__


def answers():
    reading, writing = os.pipe()
    if os.fork() == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        try:
            import {module} as module
            text = repr([call(module, *arguments) for arguments in CALLS])
        except BaseException as error:
            text = type(error).__name__
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read(10000)
    os.wait()
    if not text.startswith("["):
        raise SystemExit(text or "left before it answered")
    values = ast.literal_eval(text)
    return values if len(values) == len(CALLS) else [None] * len(CALLS)


"""


def git_diff(path: str, before: str | None, after: str) -> str:
    """A unified diff in git's format; `before` None adds the file."""
    header = f"diff --git a/{path} b/{path}\n" + ("new file mode 100644\n" if before is None else "")
    old_name = "/dev/null" if before is None else f"a/{path}"
    body = difflib.unified_diff((before or "").splitlines(keepends=True), after.splitlines(keepends=True), old_name, f"b/{path}")
    return header + "".join(body)
