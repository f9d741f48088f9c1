from envpool.policy import Message
from envpool.problem import Problem
from envpool.prompt import PROMPTS, budget_line, build_messages, document_tools
from envpool.tools import TOOLS

PROBLEM = Problem("demo-1", "demo", "c0", "folder:demo", "/testbed", "area({w}, h) should add {workdir}")


def test_compact_is_the_problem_statement_and_nothing_else() -> None:
    messages = build_messages(PROMPTS["compact"], PROBLEM, TOOLS, max_turns=10)
    assert messages == (Message("user", "area({w}, h) should add {workdir}"),)
    assert PROMPTS["compact"].no_call == "no tool call"


def test_full_names_workdir_issue_and_every_tool_with_its_parameters() -> None:
    system, user = build_messages(PROMPTS["full"], PROBLEM, TOOLS, max_turns=10)
    assert (system.role, user.role) == ("system", "user")
    assert "/testbed" in user.content
    assert "area({w}, h) should add {workdir}" in user.content
    assert user.content.endswith("\n[10 of 10 steps left]")
    for name, tool in TOOLS.items():
        assert f"Tool {name}: {tool.description}" in system.content
        for parameter in tool.parameters["properties"]:
            assert f"- {parameter} (" in system.content
    assert "<function=NAME>\n<parameter=KEY>VALUE</parameter>\n</function>" in system.content


def test_only_offered_tools_are_documented() -> None:
    offered = {"submit": TOOLS["submit"]}
    system, _ = build_messages(PROMPTS["full"], PROBLEM, offered)
    assert "Tool submit:" in system.content
    assert "Tool execute_bash" not in system.content


def test_tool_documentation_marks_required_and_choices() -> None:
    text = document_tools(TOOLS)
    assert "- command (string, required): What to do. One of: view, create, str_replace, insert, undo_edit." in text
    assert "- view_range (array, optional): " in text
    assert "(no parameters)" in text


def test_budget_line_tells_to_submit_at_the_end() -> None:
    assert budget_line(0, 150) == "[150 of 150 steps left]"
    assert budget_line(149, 150) == "[1 of 150 steps left: call submit now]"
