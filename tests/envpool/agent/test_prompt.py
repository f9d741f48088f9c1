import re

import pytest

from envpool.action_formats import ACTION_FORMATS
from envpool.agent.prompt import PROMPTS, budget_line, build_messages, document_tools, prompt_version
from envpool.policy import Message
from envpool.problem import Problem
from envpool.tool import complaint_about
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


def test_a_native_prompt_leaves_the_tools_to_the_chat_template() -> None:
    system, _ = build_messages(PROMPTS["full"], PROBLEM, TOOLS, action=ACTION_FORMATS["native"])
    assert "Tool submit" not in system.content
    assert "<function=" not in system.content
    assert system.content.endswith("do not change the tests to make them pass.")


def test_the_lsp_prompt_says_to_ask_first_and_documents_the_tool() -> None:
    system, _ = build_messages(PROMPTS["lsp"], PROBLEM, TOOLS)
    assert system.content.index("ask lsp_tool first") < system.content.index("# Tools")
    assert "Tool lsp_tool: " in system.content
    for command in TOOLS["lsp_tool"].parameters["properties"]["command"]["enum"]:
        assert command in system.content
    for command in re.findall(r"get_\w+", PROMPTS["lsp"].system):
        assert command in TOOLS["lsp_tool"].parameters["properties"]["command"]["enum"]
    with pytest.raises(ValueError, match="about lsp_tool: add it to"):
        build_messages(PROMPTS["lsp"], PROBLEM, {"submit": TOOLS["submit"]})


@pytest.mark.parametrize("action", list(ACTION_FORMATS))
@pytest.mark.parametrize("name", [name for name, template in PROMPTS.items() if template.demonstrations])
def test_demonstrations_are_calls_of_the_episode_s_format_that_the_tools_accept(name: str, action: str) -> None:
    form = ACTION_FORMATS[action]
    _, user = build_messages(PROMPTS[name], PROBLEM, TOOLS, action=form)
    examples = re.findall(r"\[you\]\n(.*?)\n\[result\]\n", user.content, re.DOTALL)
    assert len(examples) == sum(len(one.steps) for one in PROMPTS[name].demonstrations)
    steps = (step for one in PROMPTS[name].demonstrations for step in one.steps)
    for example, step in zip(examples, steps, strict=True):
        parsed = form.parse(example)
        assert parsed is not None
        assert parsed[0].strip() == step.thought
        assert parsed[1] == step.call
        assert complaint_about(parsed[1], TOOLS[step.call.name].parameters) is None
    assert user.content.index("</example>") < user.content.index("<issue>")


def test_a_prompt_whose_words_change_gets_a_new_version() -> None:
    """When this fails after a change of words: raise the template's version, then write the new digest here."""
    assert {name: prompt_version(name, "xml", {"submit": TOOLS["submit"]}) for name in PROMPTS} == {
        "compact": "compact/1/xml/d82797eb",
        "full": "full/2/xml/2e3c9e57",
        "few_shot": "few_shot/2/xml/4e32ea82",
        "lsp": "lsp/2/xml/b0b08ae1",
        "lsp_few_shot": "lsp_few_shot/2/xml/6875ea4a",
    }
    assert prompt_version("full", "xml", TOOLS) != prompt_version("full", "xml", {"submit": TOOLS["submit"]})
    assert prompt_version("full", "xml", TOOLS) != prompt_version("full", "native", TOOLS)
    with pytest.raises(ValueError, match="no such prompt 'fulll'; known: compact, full"):
        prompt_version("fulll", "xml", TOOLS)
