"""Near-duplicate issue texts and held-out repositories."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpool.curation.heldout_split import Clash, Decontamination, HeldoutSet, decontaminate
from envpool.curation.issue_index import IssueIndex, bands, similarity
from envpool.problem import Problem

ISSUE = (
    "Reading a file drops its last line. When I open a file without a trailing newline, the parser returns all rows but "
    "the last one. Expected: all rows. This worked in version 1.2 and is broken since 1.3, on Linux and on Windows alike."
)
QUOTED = "> " + ISSUE.replace(". ", ".\r\n> ").upper()
EDITED = ISSUE.replace("Linux", "macOS").replace("version 1.2", "the previous release")
OTHER = "Add an option that sorts the columns of a table by their name, as the web page does when its header is clicked twice."


def problem(instance_id: str, statement: str, repo: str = "a/b") -> Problem:
    return Problem(instance_id, repo, "HEAD", "folder:x", "/testbed", statement)


def test_similarity_by_literal() -> None:
    assert similarity("one two three four", "one two three five") == 1 / 3
    assert similarity("One, two; three!", "one two  THREE") == 1.0
    assert similarity("", "...") == 1.0
    assert similarity("a", "b") == 0.0
    assert similarity(ISSUE, QUOTED) == 1.0
    assert 0.6 < similarity(ISSUE, EDITED) < 0.9
    assert similarity(ISSUE, OTHER) == 0.0


def test_the_index_finds_copies_and_says_how_alike_they_are() -> None:
    index = IssueIndex()
    index.add("b", ISSUE)
    index.add("other", OTHER)
    assert index.nearest(QUOTED) == ("b", 1.0)
    assert index.nearest(EDITED) == ("b", similarity(ISSUE, EDITED))
    assert index.nearest("Nothing of the kind was ever written here before, as far as anybody knows.") is None
    index.add("a", ISSUE)
    assert index.nearest(QUOTED) == ("a", 1.0)  # of equals the smallest key
    assert len(index) == 3
    with pytest.raises(ValueError, match="a is in the index already"):
        index.add("a", OTHER)


def test_bands_find_what_is_at_the_threshold() -> None:
    assert [bands(s) for s in (0.05, 0.3, 0.6, 0.8, 0.9, 1.0)] == [(128, 1), (128, 1), (42, 3), (25, 5), (18, 7), (1, 128)]


def test_the_threshold_is_exact() -> None:
    alike = similarity(ISSUE, EDITED)
    for threshold, found in ((alike, True), (alike + 0.01, False)):
        index = IssueIndex(threshold)
        index.add("a", ISSUE)
        assert (index.nearest(EDITED) is not None) == found
    for wrong in (0.0, 1.1):
        with pytest.raises(ValueError, match="must be above 0 and at most 1"):
            IssueIndex(wrong)


def test_planted_copies_are_found_among_many() -> None:
    rng = random.Random(0)
    words = [f"word{number}" for number in range(5000)]
    texts = [" ".join(rng.choices(words, k=120)) for _ in range(300)]
    index = IssueIndex()
    for number, text in enumerate(texts):
        index.add(str(number), text)
    for number, text in enumerate(texts):
        changed = text.split()
        for _ in range(5):
            changed[rng.randrange(len(changed))] = rng.choice(words)
        found = index.nearest(" ".join(changed))
        assert found is not None
        assert found[0] == str(number)
        assert index.nearest(" ".join(rng.choices(words, k=120))) is None


def test_the_answer_is_the_same_in_another_process() -> None:
    code = (
        "import sys\nfrom envpool.curation.issue_index import IssueIndex, _minhash, _shingles\nindex = IssueIndex()\n"
        "index.add('a', sys.argv[1])\nprint(index.nearest(sys.argv[2]), _minhash(_shingles(sys.argv[1])).hashvalues[:3].tolist())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, ISSUE, EDITED],
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin"},
            capture_output=True,
            timeout=60,
            cwd=Path(__file__).parents[3],
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert b"('a', 0." in outputs.pop()


def test_decontamination_names_the_reason_and_the_heldout_task() -> None:
    heldout = [problem("x", ISSUE, "Django/django"), problem("y", OTHER, "pallets/flask"), problem("x", "again")]
    train = [
        problem("a", EDITED, "who/else"),
        problem("y", "Another text altogether.", "who/else"),
        problem("b", "Fine.", "django/Django"),
        problem("c", "Fine too.", "flask"),
        problem("d", "Very fine.", "who/flask"),
    ]
    assert decontaminate(train, heldout) == Decontamination(
        (train[4],),
        (
            Clash("a", "issue text", "x", similarity(ISSUE, EDITED)),
            Clash("y", "instance id", "y", 0.0),
            Clash("b", "repository", "x", 0.0),
            Clash("c", "repository", "y", 0.0),
        ),
    )
    kept = decontaminate(train, heldout, repositories=False).kept
    assert [found.instance_id for found in kept] == ["b", "c", "d"]


def test_a_heldout_repository_without_owner_stands_for_all_of_its_name() -> None:
    heldout = HeldoutSet([problem("x", ISSUE, "flask")])
    assert heldout.clash(problem("a", OTHER, "pallets/Flask")) == Clash("a", "repository", "x", 0.0)
    assert heldout.clash(problem("a", OTHER, "pallets/quart")) is None


TEXTS = st.lists(st.sampled_from(["red", "green", "blue", "grey"]), max_size=12).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(one=TEXTS, other=TEXTS)
def test_similarity_is_a_share_and_symmetric(one: str, other: str) -> None:
    assert 0.0 <= similarity(one, other) == similarity(other, one) <= 1.0
    assert similarity(one, one) == 1.0
