"""The judge of language-server trajectories: what it is shown, how it is read, when it is asked again."""

import pytest

from configs.curate_config import LspCurationConfig
from tests.envpool.curation.test_turn_deletion import FOUND, lsp, played
from tests.envpool.endpoints.test_endpoint_policy import ScriptedServer, endpoint_at, server  # noqa: F401
from verifier.lsp_judge import LspVerdict, judge_lsp_use, parse_verdict, transcript

YES, NO = r"Summary: good. \boxed{yes}", r"Verdict: \boxed{No}"


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (YES, LspVerdict.YES),
        (NO, LspVerdict.NO),
        (r"\boxed{\text{yes}}", LspVerdict.YES),
        (r"<think>\boxed{yes}?</think> so: \boxed{no}", LspVerdict.NO),
        (r"\boxed{yes} \boxed{yes}", LspVerdict.INVALID),
        (r"\boxed{yes and no}", LspVerdict.INVALID),
        (r"\boxed{}", LspVerdict.INVALID),
        ("yes", LspVerdict.INVALID),
        ("", LspVerdict.INVALID),
    ],
)
def test_one_box_with_one_word(report: str, expected: LspVerdict) -> None:
    assert parse_verdict(report) is expected


def test_other_observations_are_cut_and_the_server_s_are_not() -> None:
    long = FOUND + "x" * 300
    shown = transcript("Fix it.", [*played(["y" * 300]).turns, lsp(long, query="area")])
    assert long in shown
    assert "y" * 100 + " [...]" in shown
    assert "y" * 101 not in shown
    assert shown.index("# Task") < shown.index("Fix it.") < shown.index("# Step 1") < shown.index("# Step 2")


@pytest.mark.parametrize(
    ("answers", "verdict", "tries"),
    [((YES,), LspVerdict.YES, 1), (("hm", NO), LspVerdict.NO, 2), (("hm", "hm", "hm", YES), LspVerdict.INVALID, 3)],
)
async def test_an_unreadable_verdict_is_asked_for_again(
    server: ScriptedServer,  # noqa: F811
    answers: tuple[str, ...],
    verdict: LspVerdict,
    tries: int,
) -> None:
    for text in answers:
        server.says(text)
    judgement = await judge_lsp_use(played(["a"]), endpoint_at(server.url), LspCurationConfig())
    assert (judgement.verdict, judgement.tries, len(server.asked)) == (verdict, tries, tries)
    assert len({asked[2]["seed"] for asked in server.asked}) == tries


async def test_a_cut_report_is_no_verdict(server: ScriptedServer) -> None:  # noqa: F811
    server.says(YES, finish="length")
    judgement = await judge_lsp_use(played(["a"]), endpoint_at(server.url), LspCurationConfig(judge_tries=1))
    assert judgement.verdict is LspVerdict.INVALID


@pytest.mark.parametrize("hard_rule", [False, True])
async def test_the_hard_rule_is_an_option(server: ScriptedServer, hard_rule: bool) -> None:  # noqa: F811
    server.says(YES)
    await judge_lsp_use(played(["a"]), endpoint_at(server.url), LspCurationConfig(hard_rule=hard_rule))
    system = server.asked[0][2]["messages"][0]["content"]
    assert ("a single call of the language server that failed" in system) is hard_rule
    assert r"\boxed{yes}" in system
    assert "{" not in system.replace(r"\boxed{yes}", "").replace(r"\boxed{no}", "")
