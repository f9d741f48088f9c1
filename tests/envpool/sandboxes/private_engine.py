"""A Docker engine of the tests' own, in its own folder, that may be stopped, killed and filled up without disturbing anyone."""

import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException

PROGRAMS = ("sh", "sleep", "cat", "ls", "mkdir", "base64", "head", "env", "wc", "rm", "dd", "kill")
IMAGE = "private-base"
START_S = 90
STOP_S = 60


def why_not() -> str:
    """Why no engine can be started here; empty when one can."""
    if os.geteuid() != 0:
        return "a private Docker engine needs root"
    missing = [name for name in ("dockerd", "containerd", "mount", "ldd") if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


class PrivateEngine:
    """dockerd with all it keeps on a tmpfs of `size_mib`. `address` is where it answers once it is started."""

    def __init__(self, size_mib: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="engine-"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(self.folder)], check=True, timeout=30)
        self.address = f"unix://{self.folder}/docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        (self.folder / "pid").unlink(missing_ok=True)
        where = ["--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec", "--pidfile", f"{self.folder}/pid"]
        apart = ["--iptables=false", "--ip6tables=false", "--bridge=none", "-H", self.address]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(["dockerd", *where, *apart], stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + START_S
        while True:
            with suppress(DockerException, OSError):
                client = docker.APIClient(base_url=self.address, version="auto", timeout=30)
                client.ping()
                client.close()
                return
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"dockerd does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the engine: politely, or with SIGKILL as a crash of the machine would: it and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=STOP_S)
        if how is signal.SIGKILL:
            self._end_what_is_left()
            shutil.rmtree(self.folder / "exec", ignore_errors=True)

    def client(self) -> Any:
        """A client of it."""
        return docker.APIClient(base_url=self.address, version="auto", timeout=60)

    def import_image(self) -> None:
        """A few programs of this machine with their libraries as image IMAGE: some megabytes."""
        client = self.client()
        client.import_image_from_data(_archive(), repository=IMAGE)
        client.close()

    def remove(self) -> None:
        """Stop it and remove all it kept. What a killed dockerd left running is ended first."""
        self.stop()
        self._end_what_is_left()
        subprocess.run(["umount", str(self.folder)], check=True, timeout=30)
        self.folder.rmdir()

    def _end_what_is_left(self) -> None:
        """Kill the engine's processes (containers and all) and undo its mounts, until none is found."""
        for _ in range(100):
            left = self._left_running()
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
            below = sorted((mount for mount in mounts if mount.startswith(f"{self.folder}/")), reverse=True)
            for mount in below:
                subprocess.run(["umount", mount], check=False, timeout=30, capture_output=True)
            if not left and not below:
                return
            time.sleep(0.05)

    def _left_running(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with suppress(OSError):
                    if str(self.folder).encode() in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
        return found


def _archive() -> bytes:
    files: set[str] = set()
    for name in PROGRAMS:
        path = shutil.which(name)
        assert path is not None, name
        needed = subprocess.run(["ldd", path], capture_output=True, text=True, timeout=30, check=False).stdout
        files |= {path, *(word for word in needed.split() if word.startswith("/"))}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for folder in ("tmp", "testbed", "proc", "dev", "sys", "etc"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        for path in sorted(files):
            data = Path(path).read_bytes()
            for name in {path.lstrip("/"), f"bin/{Path(path).name}"} if "bin/" in path else {path.lstrip("/")}:
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(data), 0o755
                archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()
