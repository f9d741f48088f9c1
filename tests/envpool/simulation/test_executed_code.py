"""Which commands execute code, and which code that is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.git_scrub import APPLY, CLEAN_SHELL, EXTRACT
from envpool.pool.sandbox_preparation import SCRUB
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox
from envpool.simulation.executed_code import code_to_execute, command_parts, executes_code

EXECUTES = [
    "python3 test_a.py",
    "cd src && python -m pytest -q tests",
    "PYTHONPATH=. timeout 60 python3.11 run.py | tail -3",
    "env -i A=1 pytest",
    "x=$(python a.py); echo $x",
    'echo "`python a.py`"',
    "for f in *.py; do python $f; done",
    "if true; then pytest; fi",
    "./run_tests.sh",
    "bash scripts/test.sh -v",
    "bash -c 'cd /testbed && python x.py'",
    "cat > t.py <<'EOF'\nprint(1)\nEOF\npython t.py",
    "/usr/bin/python3 -c 'print(1)'",
    "pip install requests",
    "nice -n 10 tox -e py",
    "if python3 t.py; then echo yes; fi",
    "if [ -f a ]; then ls; elif pytest -q; then ls; fi",
    "while ! python3 t.py; do sleep 1; done",
    "until pytest; do sleep 1; done",
    "env -u PYTHONPATH python3 t.py",
    "sudo -u agent timeout -s KILL -k 5 60 python3 t.py",
    "stdbuf -o L python3 t.py | head",
    "ls | xargs -n 1 -I {} python3 {}",
]
EXECUTES_NOT = [
    "grep -rn python src | head",
    "ls python",
    "echo 'python a.py'",
    "cat pytest.ini",
    "rm -rf build && mv a.py b.py",
    "cat > run.sh <<'EOF'\npython t.py\npytest\nEOF",
    "git log --grep 'run; python x'",
    "which python; sed -n 1,20p setup.py",
    "# python a.py",
    "find . -name '*.py' | xargs grep -l pytest",
    "env -u python ls",
    "while read -r line; do echo $line; done < a.txt",
    "if [ -f python ]; then ls; fi",
    "timeout -s KILL 5 grep -rn python src",
    "",
    "bash",
]


@pytest.mark.parametrize("command", EXECUTES)
def test_commands_that_execute_code(command: str) -> None:
    assert executes_code(command)


@pytest.mark.parametrize("command", EXECUTES_NOT)
def test_commands_that_do_not(command: str) -> None:
    assert not executes_code(command)


def test_our_own_scripts_are_never_simulated() -> None:
    diff = "diff --git a/a.py b/a.py\n+python a.py\n+pytest\n"
    apply = APPLY.replace("WORKDIR", "/testbed").replace("HEREDOC_END", "END_1").replace("PATCH_TEXT", diff)
    assert not executes_code(apply)
    assert not executes_code(EXTRACT.replace("WORKDIR", "/testbed"))
    assert not executes_code(CLEAN_SHELL + "'cd /testbed && git diff'")
    assert not executes_code(SCRUB)


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("python a.py", [("", "python a.py", True)]),
        ("cd src && python a.py || echo no", [("", "cd src", False), ("&&", "python a.py", True), ("||", "echo no", False)]),
        ("echo 'a; b' ; pytest\nls", [("", "echo 'a; b'", False), (";", "pytest", True), (";", "ls", False)]),
        (
            "cat > t.py <<'EOF' && python t.py\nprint('a && b')\nEOF\nls",
            [("", "cat > t.py <<'EOF' \nprint('a && b')\nEOF", False), ("&&", "python t.py", True), (";", "ls", False)],
        ),
        ("python -c 'import a\nprint(a)' && ls", [("", "python -c 'import a\nprint(a)'", True), ("&&", "ls", False)]),
        ("for f in a b; do python $f; done", [("", "for f in a b; do python $f; done", True)]),
        ("(cd src; ls)", [("", "(cd src; ls)", False)]),
        ("python a.py | tail -1 && ls", [("", "python a.py | tail -1", True), ("&&", "ls", False)]),
    ],
)
def test_a_list_is_cut_where_a_shell_cuts_it(command: str, parts: list[tuple[str, str, bool]]) -> None:
    assert [(part.joint, part.text, part.executes) for part in command_parts(command)] == parts


@given(st.text(alphabet="ab '\"\\;&|()$`\n<>#{}=-./py", max_size=60))
def test_no_command_breaks_the_reading(command: str) -> None:
    parts = command_parts(command)
    assert any(part.executes for part in parts) in (True, False)
    assert all(part.text for part in parts) or not command.strip()


async def test_code_is_what_the_command_names_and_what_that_imports() -> None:
    files = {
        "/testbed/test_a.py": "import sys\nfrom pkg.sums import add, double\nfrom missing import x\n",
        "/testbed/pkg/__init__.py": "",
        "/testbed/pkg/sums.py": "import json, other\n",
        "/testbed/src/other.py": "y = 1\n",
        "/testbed/unrelated.py": "z = 1\n",
    }
    found = await code_to_execute(ScriptedSandbox(files, {}), "cd /testbed && python3 test_a.py --fast")
    assert list(found) == ["test_a.py", "pkg/sums.py", "src/other.py"]
    assert (await code_to_execute(ScriptedSandbox(files, {}), "python3 nothing.py")) == {}
    assert list(await code_to_execute(ScriptedSandbox(files, {}), "python3 test_a.py", max_files=1)) == ["test_a.py"]
