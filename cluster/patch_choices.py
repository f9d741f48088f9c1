"""The patches that test-time scaling chose: predictions for SWE-bench, and beside them why each was chosen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from cluster.candidate_scoring import CandidateSignals, CandidateVotes, edit_of
from cluster.predictions_file import CHOSEN_PREDICTIONS, write_predictions
from cluster.run_folder import write_atomically
from configs.tts_config import TTSConfig
from verifier.reward import Group, ScoredTrajectory
from verifier.selection import Candidate, JudgedCandidate, SelectionRule, ranking_keys, select

CHOICES = "choices_tts.jsonl"
"""One line per task: `chosen` (its sample_index), `score`, how many `tied` for it, and score, votes and signals of all."""


def judged_candidate(
    config: TTSConfig, member: ScoredTrajectory, scored: CandidateVotes, signals: CandidateSignals
) -> JudgedCandidate:
    """A candidate as the selection sees it, and its real outcome as the report needs it."""
    seen = signals.of(member)
    bonus = config.existing_tests_weight * (0.5 if seen.existing_tests is None else seen.existing_tests)
    bonus += config.reproduction_weight * (0.5 if seen.reproductions is None else seen.reproductions)
    values = tuple(None if vote is None else vote.probability for vote in scored.votes[edit_of(member)])
    return JudgedCandidate(Candidate(member.trajectory.patch.diff, values, bonus), member.resolved)


def chosen_rows(
    config: TTSConfig,
    groups: Sequence[Group],
    judged: dict[str, list[JudgedCandidate]],
    signals: CandidateSignals,
    rule: SelectionRule,
) -> list[dict[str, Any]]:
    """The choice among the first tts.num_candidates members of each group, and why; `index` is the chosen member's place in
    its group. Real outcomes have no part in it."""
    rows = []
    for group in groups:
        members = group.members[: config.num_candidates]
        candidates = [one.candidate for one in judged[group.instance_id][: config.num_candidates]]
        index, keys = select(candidates, config.seed, rule), ranking_keys(candidates, rule)
        of_each = [
            {
                "sample_index": member.trajectory.sample_index,
                "score": key[0],
                "votes": candidate.votes,
                "existing_tests": signals.of(member).existing_tests,
                "reproductions": signals.of(member).reproductions,
                "empty": candidate.is_empty,
            }
            for member, candidate, key in zip(members, candidates, keys, strict=True)
        ]
        rows.append(
            {
                "instance_id": group.instance_id,
                "chosen": members[index].trajectory.sample_index,
                "index": index,
                "score": keys[index][0],
                "tied": keys.count(keys[index]),
                "candidates": of_each,
            }
        )
    return rows


def write_choices(root: Path, name: str, played_by: str, groups: Sequence[Group], rows: Sequence[dict[str, Any]]) -> None:
    """Write both files of a run folder. `name` is the evaluation, `played_by` the name of its stamp, which tells whose
    candidates these are."""
    patches = [
        (group.instance_id, group.members[row["index"]].trajectory.patch.diff) for group, row in zip(groups, rows, strict=True)
    ]
    write_predictions(root / CHOSEN_PREDICTIONS, f"{root.name}/{name}-tts", patches)
    lines = [{**row, "candidates_of": name, "played_by": played_by} for row in rows]
    write_atomically(root / CHOICES, b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))


def chosen_among(root: Path) -> tuple[str, str] | None:
    """The evaluation that a run's chosen patches are from, and the name of its stamp; None where nothing was chosen."""
    try:
        with (root / CHOICES).open("rb") as file:
            line = orjson.loads(file.readline())
    except FileNotFoundError:
        return None
    return line["candidates_of"], line["played_by"]
