"""Images from a registry of the test's own on an engine of its own."""

import asyncio
import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from envpool.sandbox_errors import ImageMissingError, SandboxStartError
from envpool.sandbox_parts.docker_images import GIB, DockerImages
from tests.envpool.sandboxes.private_engine import PrivateEngine, why_not

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MIB = 2**20


class Registry:
    """The reading half of the registry protocol, version 2; `asked` counts requests of manifests by name."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.delay_s = 0.0
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body, kind = registry.answer(self.path)
                self.send_response(200 if body is not None else 404)
                body = body if body is not None else b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Docker-Content-Digest", digest(body))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> tuple[bytes | None, str]:
        if path in ("/v2/", "/v2"):
            return b"{}", "application/json"
        name, _, reference = path.removeprefix("/v2/").rpartition("/")
        if name.endswith("/blobs"):
            time.sleep(self.delay_s)
            return self.blobs.get(reference), "application/octet-stream"
        name = name.removesuffix("/manifests")
        self.asked[name] += 1
        return self.manifests.get(f"{name}:{reference}") or self.manifests.get(reference), MANIFEST

    def add(self, name: str, size_mib: int) -> None:
        """An image `name:1` with one file of random bytes."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            member = tarfile.TarInfo("random")
            member.size = size_mib * MIB
            archive.addfile(member, io.BytesIO(os.urandom(member.size)))
        layer = gzip.compress(packed.getvalue(), 1)
        rootfs = {"type": "layers", "diff_ids": [digest(packed.getvalue())]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
        self.blobs |= {digest(layer): layer, digest(config): config}
        sizes = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config), "digest": digest(config)}
        gzipped = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        layers = [{"mediaType": gzipped, "size": len(layer), "digest": digest(layer)}]
        manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": sizes, "layers": layers}).encode()
        self.manifests |= {f"{name}:1": manifest, digest(manifest): manifest}


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    if reason := why_not():
        pytest.skip(reason)
    private = PrivateEngine(300)
    try:
        private.start()
        yield private
    finally:
        private.remove()


@pytest.fixture
def client(engine: PrivateEngine) -> Iterator[Any]:
    opened = engine.client()
    yield opened
    for image in opened.images():
        opened.remove_image(image["Id"], force=True)
    opened.close()


@pytest.fixture
def registry() -> Iterator[Registry]:
    served = Registry()
    yield served
    served.server.shutdown()
    served.server.server_close()


def names(client: Any) -> set[str]:
    tags = {tag for image in client.images() for tag in image["RepoTags"] or ()}
    return {tag for tag in tags if not tag.startswith("swe-master-cache/")}


@pytest.mark.docker
async def test_a_group_pulls_its_image_once_through_the_mirror(client: Any, registry: Registry) -> None:
    registry.add("org/task", 2)
    registry.delay_s = 0.3  # a slow image
    images = DockerImages(client, mirror=registry.address)
    await asyncio.gather(*(images.ensure("docker.io.test/org/task:1") for _ in range(4)))
    assert names(client) == {"docker.io.test/org/task:1"}
    pulls = registry.asked["org/task"]
    await images.ensure("docker.io.test/org/task:1")
    assert registry.asked["org/task"] == pulls <= 2  # a pull asks for the tag's digest and then for the manifest
    assert [len(image.names) for image in images.cached()] == [2]


@pytest.mark.docker
async def test_a_missing_image_and_a_dead_registry_are_told_apart(client: Any, registry: Registry) -> None:
    with pytest.raises(ImageMissingError, match="no registry has the image"):
        await DockerImages(client).ensure(f"{registry.address}/org/absent:1")
    registry.server.shutdown()
    registry.server.server_close()
    with pytest.raises(SandboxStartError, match="cannot be pulled"):
        await DockerImages(client).ensure(f"{registry.address}/org/task:1")
    assert client.images() == []


@pytest.mark.docker
async def test_the_least_recently_used_image_makes_room(client: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c", "d"):
        registry.add(f"org/{name}", 8)
    client.import_image_from_data(b"\0" * 1024, repository="foreign")
    images = DockerImages(client, budget_gib=20 * MIB / GIB)
    clock = [1_000_000]
    monkeypatch.setattr(time, "time", lambda: clock[0])

    async def use(name: str) -> None:
        clock[0] += 100
        await images.ensure(f"{registry.address}/org/{name}:1")

    def kept() -> set[str]:
        return {name.removeprefix(f"{registry.address}/org/").removesuffix(":1") for name in names(client)} - {"foreign:latest"}

    await use("a")
    await use("b")
    assert kept() == {"a", "b"}
    await use("a")
    await use("c")  # 24 MiB: b was used longest ago
    assert kept() == {"a", "c"}
    created = client.create_container(f"{registry.address}/org/a:1", ["nothing"])["Id"]
    await use("d")  # a is older than c, but a container needs it
    assert kept() == {"a", "d"}
    client.remove_container(created)
    assert "foreign:latest" in names(client)
