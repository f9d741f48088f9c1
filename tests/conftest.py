"""Fixtures that several packages' tests share: image store, a small image, a Docker engine where one answers.

Property tests draw the same examples every time, so that a run says something about the change and not about luck;
`HYPOTHESIS_PROFILE=explore make test` draws new ones.
"""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

from configs.sandbox_config import SandboxConfig
from envpool.sandbox_errors import SandboxUnavailableError
from envpool.sandbox_parts.docker_engine import connect
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import bubblewrap_works

os.environ["SWE_MASTER_STRICT_METRICS"] = "1"  # a metric without a description fails the test that logs it

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests were skipped, by reason: one line each."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(one.longrepr[-1] if isinstance(one.longrepr, tuple) else one.longrepr) for one in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {' '.join(reason.removeprefix('Skipped: ').split())[:120]}")


@pytest.fixture
def images(tmp_path: Path) -> FolderImages:
    """An empty image store."""
    return FolderImages(tmp_path / "images")


@pytest.fixture
def calc_image(images: FolderImages) -> str:
    """An image of two files: calc.py and pkg/data.txt."""
    return images.add("calc", {"calc.py": "def add(a, b):\n    return a - b\n", "pkg/data.txt": "one\ntwo\nthree\n"})


@pytest.fixture(params=["none", "bubblewrap"])
def isolation(request: pytest.FixtureRequest) -> str:
    """Both forms of the process sandbox; bubblewrap is skipped where it cannot run."""
    form = str(request.param)
    if form == "bubblewrap" and not bubblewrap_works():
        why = "is not installed" if shutil.which("bwrap") is None else "may not make namespaces here"
        pytest.skip(f"bubblewrap {why}")
    return form


@pytest.fixture(scope="session")
def docker_engine() -> str:
    """The address of a Docker engine that answers and has the base image; skips with the reason where there is none."""
    config = SandboxConfig()
    try:
        client = connect(config.docker_host, timeout_s=30)
    except SandboxUnavailableError as error:
        pytest.skip(str(error))
    names = {tag.split(":")[0] for image in client.images() for tag in image.get("RepoTags") or []}
    address = str(client.base_url).replace("http+docker://localhost", "")
    client.close()
    if config.base_image not in names:
        pytest.skip(f"the Docker engine has no image {config.base_image}; run: make docker-local")
    return address
