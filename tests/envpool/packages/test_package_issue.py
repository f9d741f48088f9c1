"""Issue texts: what they say, what they never say, and what an endpoint's answer is worth."""

import pytest

from configs.rollout_config import EndpointConfig
from envpool.packages.candidate_bugs import BugSet, CandidateBug
from envpool.packages.issue_writer import EndpointWriter, TemplateWriter, issue_request, issue_writer, refusal
from envpool.packages.package_issue import IssueFacts, behaviour_of, gives_away, issue_text
from envpool.packages.source_edit import SourceEdit
from tests.envpool.endpoints.test_endpoint_policy import ScriptedServer, server  # noqa: F401

BEFORE, AFTER = "def _fetch(a):\n    return a[1:]\n", "def _fetch(a):\n    return a[2:]\n"
EDIT = SourceEdit(BEFORE.index("1:"), BEFORE.index("1:") + 1, "2", "_fetch")
BUG = CandidateBug("off_by_one", "src/pkg/inner/mod.py", "_fetch", 2, BEFORE, AFTER, EDIT, 1, 2)
BUGS = BugSet((BUG,))
MESSAGES = {
    "t.py::test_a_list[1]": "assert [2] == [1, 2]",
    "t.py::test_a_list[2]": "never shown",
    "t.py::TestX::test_quotes": "where x = return a[2:]",
    "t.py::test_path": "error in src/pkg/inner/mod.py",
    "t.py::test_one_more": "",
}
FACTS = IssueFacts("pkg", BUGS, MESSAGES, ("def test_one_more():\n    assert pkg.head('x') == 'x'",), 0)
GOOD = "pkg.head('x') returns an empty string since the last release, I expected 'x'."


def test_an_issue_says_what_is_seen_and_not_where_it_is() -> None:
    issue = issue_text(FACTS)
    assert issue == issue_text(FACTS)
    assert issue.split("\n\n")[2] == "- quotes\n- a list: `assert [2] == [1, 2]`\n- one more\n- and 1 more like these"
    assert "pkg" in issue
    for secret in ("a[1:]", "a[2:]", "mod.py", "off", "line"):
        assert secret not in issue


def test_two_bugs_may_show_twice_as_much() -> None:
    other = CandidateBug("off_by_one", "src/pkg/other.py", "_fetch", 2, BEFORE, AFTER, EDIT, 1, 2)
    text = issue_text(IssueFacts("pkg", BugSet((BUG, other)), MESSAGES, (), 0))
    assert text.split("\n\n")[2] == "- quotes\n- a list: `assert [2] == [1, 2]`\n- one more\n- path"


def test_behaviours() -> None:
    assert behaviour_of("a/test_b.py::TestC::test_parse_empty_line[x-1]") == "parse empty line"
    assert behaviour_of("a.py::test") == "test"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("look at src/pkg/inner/mod.py", "src/pkg/inner/mod.py"),
        ("look at mod.py", "mod.py"),
        ("in `pkg.inner.mod` something", "pkg.inner.mod"),
        ("it says return  a[2:]\nthere", "return a[2:]"),
        ("it should be\n  return\n a[1:]", "return a[1:]"),
        ("on Line 17", "Line 17"),
        (GOOD, ""),
        ("pkg.inner.models is fine, my_mod.py too", ""),
    ],
)
def test_what_gives_a_bug_away(text: str, found: str) -> None:
    assert gives_away(text, BUGS) == found


def test_every_package_has_an_init_file() -> None:
    """Its path tells where the bug is; the package's name does not."""
    bug = CandidateBug("off_by_one", "src/pkg/__init__.py", "f", 2, BEFORE, AFTER, EDIT, 1, 2)
    assert gives_away("pkg is wrong, see pkg.f", BugSet((bug,))) == ""
    assert gives_away("see pkg/__init__.py", BugSet((bug,))) == "__init__.py"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD, ""),
        (f"{GOOD} The slice in mod.py is off.", "the answer says where the bug is"),
        (f"{GOOD} Perhaps _fetch is to blame.", "the answer says where the bug is"),
        ("wrong", "the answer is too short"),
        (GOOD * 100, "the answer is too long"),
    ],
)
def test_answers_are_checked(text: str, problem: str) -> None:
    assert refusal(text, FACTS) == problem


def test_a_function_that_the_tests_name_may_be_named() -> None:
    facts = IssueFacts("pkg", BUGS, {"t.py::test_fetch": "assert pkg._fetch('x') == 'x'"}, (), 0)
    assert refusal(f"{GOOD} pkg._fetch too.", facts) == ""


def test_the_model_is_not_told_where_the_bug_is() -> None:
    system, user = issue_request(FACTS)
    assert user.content.startswith("These no longer work:\n- quotes\n- a list: assert [2] == [1, 2]\n")
    assert "assert pkg.head('x') == 'x'" in user.content
    for secret in ("mod.py", "a[2:]", "a[1:]", "off_by_one"):
        assert secret not in system.content + user.content


async def test_an_answer_that_is_no_use_is_replaced_and_named(server: ScriptedServer) -> None:  # noqa: F811
    writer = issue_writer(EndpointConfig(server.url, "m", "", 10.0))
    assert isinstance(writer, EndpointWriter)
    server.says(GOOD)
    server.says("The bug is in mod.py, I am sure of that, please have a look.")
    server.says(GOOD, finish="length")
    server.says(None)
    server.fails(400, "no")
    try:
        written = [await writer(FACTS) for _ in range(5)]
    finally:
        await writer.close()
    assert [one.writer for one in written] == [
        "endpoint",
        "template: the answer says where the bug is",
        "template: the answer was cut off",
        "template: the answer is too short",
        "template: the endpoint failed",
    ]
    assert [one.text for one in written] == [f"{GOOD}\n", *[issue_text(FACTS)] * 4]


async def test_without_an_endpoint_the_template_writes() -> None:
    writer = issue_writer(EndpointConfig())
    assert isinstance(writer, TemplateWriter)
    assert (await writer(FACTS)).writer == "template"
