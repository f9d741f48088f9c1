"""The viewer's pages in a real Chromium: navigation, filters, keyboard, search, shared links, hostile text, the exported file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.chromium_page import CHROMIUM, ChromiumPage, chromium_page
from cluster.policy_logprobs import write_step
from cluster.viewer.html_export import export_html
from tests.cluster.test_web_server import serving
from tests.cluster.viewer_runs import HOSTILE, write_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
]
ROWS = "[...document.querySelectorAll('.vrow')].map((row) => row.querySelector('.task').textContent)"

READY = "document.querySelector('main').dataset.ready?.startsWith('{}')"
"""What is shown is this address, all of it."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_run(tmp_path_factory.mktemp("runs") / "run", hostile=True)
    write_step(root, 1, [("acme__anvil-1", 0)], [np.array([-0.25, -1.0] * 3, np.float32)])
    return root


@pytest.fixture(scope="module")
def page() -> Iterator[ChromiumPage]:
    with chromium_page() as found:
        found.resize(1440, 900)
        yield found


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with serving(run) as server:
        yield server.link


def show(page: ChromiumPage, url: str, ready: str) -> None:
    """Open an address afresh and wait for something on it."""
    page.open("about:blank")
    page.errors.clear()
    page.open(url)
    page.wait(f"document.querySelector('main')?.dataset.ready && ({ready})")


def text(page: ChromiumPage, selector: str = "main") -> str:
    return str(page.value(f"document.querySelector({selector!r}).textContent"))


def test_from_the_run_to_a_group_to_a_trajectory(page: ChromiumPage, address: str) -> None:
    show(page, address, "document.querySelector('h1')")
    assert page.value("location.hash") == "#/run"
    assert text(page, "h1") == "run"
    page.click(".top nav a:nth-child(2)")
    page.wait(f"{ROWS}.length === 6")
    page.click(".vrow")
    page.wait("document.querySelectorAll('.turn').length === 4")
    page.press("g")
    page.wait("document.querySelectorAll('.memberhead').length === 2 && document.querySelectorAll('.step').length === 6")
    heads = page.value("[...document.querySelectorAll('.memberhead')].map((head) => head.textContent)")
    assert "1 reward" in heads[0]
    assert "+0.5 advantage" in heads[0]
    assert "−0.5 advantage" in heads[1]
    page.click(".step")
    page.wait("document.querySelector('.turn.selected')")
    assert page.value("location.hash").startswith("#/run/t/grpo/shard_00000/0?turn=1")
    assert page.errors == []


def test_filters_change_the_rows_and_the_address(page: ChromiumPage, address: str) -> None:
    show(page, f"{address}#/run/trajectories", f"{ROWS}.length === 6")
    page.click("[data-facet=stage] [data-value=rollout]")
    page.wait(f"{ROWS}.length === 3")
    page.click("[data-facet=outcome] [data-value='not resolved']")
    page.wait(f"{ROWS}.length === 2")
    assert "stage=rollout&outcome=not+resolved" in page.value("location.hash")
    show(page, page.value("location.href"), f"{ROWS}.length === 2")
    assert page.value("document.querySelectorAll('.option.on').length") == 2
    page.click(".facethead .clear")
    page.wait(f"{ROWS}.length === 6")
    page.click("[data-facet=step] [data-value='2']")
    page.wait(f"{ROWS}.length === 1")
    assert page.value(ROWS) == ["acme__rope-2 #0"]
    show(page, f"{address}#/run/trajectories?rmin=0.5&sort=-advantage", f"{ROWS}.length === 3")
    assert page.value(ROWS) == ["acme__rope-2 #0", "acme__anvil-1 #0", "acme__rope-2 #0"]
    assert page.errors == []


def test_everything_by_keyboard(page: ChromiumPage, address: str) -> None:
    show(page, f"{address}#/run/trajectories", f"{ROWS}.length === 6")
    for key in ("j", "j", "k"):
        page.press(key)
    page.wait("document.querySelector('.vrow.selected')?.dataset.index === '0'")
    page.press("Enter")
    page.wait(READY.format("#/run/t/grpo/shard_00000/0"))
    page.press("n")
    page.wait(READY.format("#/run/t/grpo/shard_00000/1"))
    page.press("p")
    page.wait(READY.format("#/run/t/grpo/shard_00000/0"))
    page.press("j")
    page.wait("document.querySelector('.turn.selected')?.id === 'turn-1'")
    page.press("?")
    page.wait("document.querySelector('.overlay')")
    page.press("Escape")
    page.wait("!document.querySelector('.overlay')")
    page.press("Escape")
    page.wait(READY.format("#/run/trajectories"))
    page.press("5")
    page.wait("document.querySelector('canvas')")
    assert page.errors == []


def test_search_streams_hits_and_opens_at_the_turn(page: ChromiumPage, address: str) -> None:
    show(page, f"{address}#/run/trajectories", f"{ROWS}.length === 6")
    page.press("/")
    page.wait("document.activeElement.id === 'search'")
    page.type("beta")
    page.press("Enter")
    page.wait(f"document.querySelector('.status').textContent.includes('1 hits in 6 searched') && {ROWS}.length === 1")
    assert text(page, ".snippet mark") == "beta"
    page.click(".vrow")
    page.wait("document.querySelector('.turn.selected')?.id === 'turn-2'")
    assert text(page, ".turn.selected mark") == "beta"
    assert "q=beta" in page.value("location.hash")
    assert page.errors == []


def test_tokens_tests_and_patches(page: ChromiumPage, address: str) -> None:
    show(page, f"{address}#/run/t/grpo/shard_00000/0?tokens=gap", "document.querySelector('.tok.own')")
    legend = text(page, ".legend")
    assert "+0.5" in legend
    assert "mean |gap| 0.25" in legend
    colours = page.value("[...document.querySelectorAll('#turn-1 .tok.own')].map((tok) => getComputedStyle(tok).backgroundColor)")
    assert colours[0] != colours[1]
    page.press("t")
    page.wait("document.querySelector('.segments .on').dataset.mode === 'engine'")
    show(page, f"{address}#/run/t/grpo/shard_00000/0?tab=patch", "document.querySelectorAll('.dl.add').length === 2")
    show(page, f"{address}#/run/t/grpo/shard_00000/0?tab=tests", "document.querySelector('.status-failed')")
    assert "t.py::test_new" in text(page, "table.tests tr:nth-child(1) code")
    for where in ("tasks", "curves", "timeline", "task/acme__rope-2"):
        show(page, f"{address}#/run/{where}", "true")
        assert "cannot be shown" not in text(page)
    assert page.errors == []


def test_what_an_agent_wrote_is_text(page: ChromiumPage, address: str) -> None:
    written = "document.querySelector('main').textContent.includes('onerror')"
    for where, ready in (
        ("t/grpo/shard_00000/0", written),
        ("t/grpo/shard_00000/0?tokens=mask", "document.querySelector('.tok')"),
        ("g/grpo/shard_00000/0", written),
        ("trajectories?q=onerror", written),
    ):
        show(page, f"{address}#/run/{where}", ready)
        assert page.value("window.owned") is None
        assert page.value("document.querySelectorAll('main img, main script, main iframe').length") == 0
    show(page, f"{address}#/run/t/grpo/shard_00000/0", "document.querySelector('.turn')")
    assert HOSTILE.replace("\u202e", "‹U+202E›") in text(page)
    assert page.dialogs == []
    page.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned = 4\">')")
    page.wait("true")
    assert page.value("new Promise((done) => setTimeout(() => done(window.owned ?? null), 300))") is None


def test_what_does_not_exist_is_said(page: ChromiumPage, address: str) -> None:
    show(page, f"{address}#/run/t/grpo/shard_00009/0", "document.querySelector('.warn')")
    assert "no trajectory grpo/shard_00009/0" in text(page)
    show(page, f"{address}#/other", "document.querySelector('.warn')")
    assert "no run other" in text(page)


def test_the_exported_file_works_without_a_server(page: ChromiumPage, run: Path, tmp_path: Path) -> None:
    target = tmp_path / "run.html"
    export_html(run, target)
    page.open("about:blank")
    page.requests.clear()
    show(page, f"{target.as_uri()}#/run/trajectories", f"{ROWS}.length === 6")
    page.click(".vrow")
    page.wait("document.querySelectorAll('.turn').length === 4")
    page.press("g")
    page.wait("document.querySelectorAll('.step').length === 6")
    show(page, f"{target.as_uri()}#/run/trajectories?q=beta", f"{ROWS}.length === 1")
    show(page, f"{target.as_uri()}#/run/t/grpo/shard_00000/0?tokens=gap", "document.querySelector('.tok.own')")
    assert page.value("window.owned") is None
    assert [url for url in page.requests if not url.startswith(("file://", "about:"))] == []
    assert page.errors == []
