"""The golden-number comparison: against numbers made independently, against peers' file, and against wrong files."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden_check import main
from tests.trainers.golden_vectors import GOLDEN
from tests.trainers.naive_golden import golden_file

QUANTITIES = 4 + 6 * 2 + 3 + 1


def check(folder: Path, data: Any, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    path = folder / "golden.json"
    path.write_text(json.dumps(data))
    code = main([str(path), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_agrees_with_a_naive_implementation(tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int) -> None:
    code, report = check(tmp_path, golden_file(seed), capsys)
    assert (code, report["passed"], report["failed"], report["unknown"]) == (0, True, [], [])
    assert len(report["max_abs_error"]) == QUANTITIES
    assert max(report["max_abs_error"].values()) < 1e-6


def test_agrees_with_peers(capsys: pytest.CaptureFixture[str]) -> None:
    if not GOLDEN.is_file():
        pytest.skip("../shared/oracles/policy_gradient.json is not there")
    assert main([str(GOLDEN), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["max_abs_error"]) == QUANTITIES
    assert report["unknown"] == []
    assert max(report["max_abs_error"].values()) < 1e-6


def perturb(case: dict[str, Any], keys: list[Any]) -> None:
    for key in keys[:-1]:
        case = case[key]
    case[keys[-1]] += 1e-3


@pytest.mark.parametrize(
    ("keys", "quantity"),
    [
        (["advantages", "leave_one_out", 0], "advantages/leave_one_out"),
        (["advantages", "leave_one_out_baseline_valid_only", 1], "advantages/leave_one_out_baseline_valid_only"),
        (
            ["losses_with_leave_one_out", "gspo/seq-mean-token-mean", "loss"],
            "losses_with_leave_one_out/gspo/seq-mean-token-mean/loss",
        ),
        (["losses_with_leave_one_out", "cispo/token-mean", "grad", 1, 2], "losses_with_leave_one_out/cispo/token-mean/grad"),
        (["weights_old_over_rollout", "icepop_0.8_1.25", 0, 0], "weights_old_over_rollout/icepop_0.8_1.25"),
        (["k3", 0, 0], "k3"),
    ],
)
def test_one_wrong_number_is_found_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: list[Any], quantity: str
) -> None:
    data = golden_file()
    perturb(data["cases"][1], keys)
    code, report = check(tmp_path, data, capsys)
    assert (code, report["passed"], report["failed"]) == (1, False, [quantity])
    assert report["max_abs_error"][quantity] == pytest.approx(1e-3, rel=1e-2)
    assert check(tmp_path, data, capsys, "--tolerance", "0.01")[0] == 0


def test_a_number_that_is_not_finite_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = golden_file()
    data["cases"][0]["k3"][0][0] = float("nan")
    code, report = check(tmp_path, data, capsys)
    assert (code, report["failed"], report["max_abs_error"]["k3"]) == (1, ["k3"], None)


def test_nan_at_masked_positions_changes_no_quantity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = golden_file()
    masked = 0
    for case in data["cases"]:
        for name in ("policy_logprobs", "old_logprobs", "rollout_logprobs"):
            for row, mask in zip(case[name], case["loss_mask"], strict=True):
                for column, on in enumerate(mask):
                    if not on:
                        row[column] = float("nan")
                        masked += 1
    assert masked > 10
    code, report = check(tmp_path, data, capsys)
    assert (code, report["failed"]) == (0, [])


def test_unknown_quantities_are_named_and_the_rest_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = golden_file()
    data["cases"][0]["entropy"] = [1.0]
    data["cases"][0]["advantages"]["gae"] = [0.0]
    data["cases"][0]["losses_with_leave_one_out"]["sapo/token-mean"] = {"loss": 0.0, "grad": []}
    data["cases"][0]["weights_old_over_rollout"]["geometric_2"] = [[1.0]]
    code, report = check(tmp_path, data, capsys)
    assert code == 0
    assert report["unknown"] == [
        "advantages/gae",
        "entropy",
        "losses_with_leave_one_out/sapo/token-mean",
        "weights_old_over_rollout/geometric_2",
    ]
    assert len(report["max_abs_error"]) == QUANTITIES


def test_a_file_with_nothing_to_compare_does_not_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = golden_file(num_cases=1)
    for key in ("advantages", "losses_with_leave_one_out", "weights_old_over_rollout", "k3"):
        del data["cases"][0][key]
    code, report = check(tmp_path, data, capsys)
    assert (code, report["passed"], report["max_abs_error"]) == (1, False, {})


def without(name: str) -> dict[str, Any]:
    data = copy.deepcopy(golden_file(num_cases=1))
    del data["cases"][0][name]
    return data


def short_row() -> dict[str, Any]:
    data = golden_file(num_cases=1)
    data["cases"][0]["old_logprobs"] = data["cases"][0]["old_logprobs"][1:]
    return data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "cannot read"),
        ("[1, 2]", "no list `cases`"),
        ('{"cases": []}', "no list `cases`"),
        (json.dumps(without("rewards")), "case 0: lacks rewards"),
        (json.dumps(short_row()), "old_logprobs has shape"),
        (json.dumps(golden_file(num_cases=1) | {"clip": {}}), "needs `clip`"),
        (json.dumps(golden_file(num_cases=1)).replace('"group_size": ', '"group_size": 7'), "not whole groups"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    path = tmp_path / "golden.json"
    path.write_text(text)
    assert main([str(path), "--json"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert output.err.count("\n") == 1


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nothing.json")]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "golden.json"
    path.write_text(json.dumps(golden_file()))
    assert main([str(path)]) == 0
    assert f"3 cases, {QUANTITIES} quantities, 0 above 1e-06, 0 unknown" in capsys.readouterr().out
