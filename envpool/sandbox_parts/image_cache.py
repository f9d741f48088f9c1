"""The store of `folder:` images: one directory per image, holding the workdir's files and a single-commit git repository."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from envpool.sandbox_errors import ImageMissingError

PREFIX = "folder:"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=@-]*")
EPOCH = 1_704_067_200  # 2024-01-01 UTC: modification and commit time of everything in an image
BASE_REF = "refs/swe-master/base"  # the image's commit, wherever the agent moves HEAD
DIGEST_FILE = ".git/image-digest"  # tells an image from another of the same name
SKIPPED_DIRS = frozenset({".git", "__pycache__", ".pytest_cache", ".hypothesis", ".tox", ".venv"})
# One commit and nothing else: no template (hooks, info), no reflog, no remote. Copies of the tree keep times and sizes, so
# git trusts its index there once it ignores inode and ctime.
MAKE_REPOSITORY = """set -e
git init -q --template= -b main .
printf '[core]\\n\\tlogAllRefUpdates = false\\n\\ttrustctime = false\\n\\tcheckStat = minimal\\n\\tautocrlf = false\\n\
[gc]\\n\\tauto = 0\\n[maintenance]\\n\\tauto = false\\n\
[user]\\n\\tname = developer\\n\\temail = developer@localhost\\n' >> .git/config
git add -A --force .
git commit -q --no-verify --allow-empty -m 'Initial commit'
"""


class FolderImages:
    """Images that are plain folders; safe to use from several processes at once (an image appears by one rename).

    >>> images = FolderImages(Path(tempfile.mkdtemp()))
    >>> images.add("demo", {"calc.py": "x = 1\\n"})
    'folder:demo'
    >>> (images.path("folder:demo") / "calc.py").read_text()
    'x = 1\\n'
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def add(self, name: str, files: Mapping[str, str]) -> str:
        """Store `files` (POSIX path relative to the workdir -> text) as image `name`; returns `folder:<name>`.

        Adding the same files again does nothing. Raises ValueError for a path outside the tree and when `name` already
        holds other files. The commit's hash depends on the files only.
        """
        digest = hashlib.sha256()
        for path, text in sorted(files.items()):
            parts = PurePosixPath(path).parts
            if not parts or path.startswith("/") or ".." in parts or parts[0] == ".git":
                raise ValueError(f"image {name}: {path!r} is not a path inside the workdir")
            digest.update(f"{len(path)} {path} {len(text)} {text}".encode())

        def fill(tree: Path) -> None:
            for path, text in files.items():
                target = tree / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
                target.chmod(0o755 if text.startswith("#!") else 0o644)

        return self._store(name, digest.hexdigest(), fill)

    def add_tree(self, name: str, source_dir: Path) -> str:
        """Store a copy of `source_dir` (without its .git, caches and virtual environment); otherwise as `add`."""
        digest = hashlib.sha256()
        for path in _walk(source_dir):
            data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            mode = "l" if path.is_symlink() else "x" if os.access(path, os.X_OK) else "f"
            digest.update(f"{path.relative_to(source_dir)} {mode} {len(data)} ".encode() + data)

        def fill(tree: Path) -> None:
            for path in _walk(source_dir):
                target = tree / path.relative_to(source_dir)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target, follow_symlinks=False)

        return self._store(name, digest.hexdigest(), fill)

    def path(self, image: str) -> Path:
        """The folder of `folder:<name>`. Raises ImageMissingError."""
        name = image.removeprefix(PREFIX)
        path = self.root / name
        if not image.startswith(PREFIX) or not NAME.fullmatch(name) or not path.is_dir():
            raise ImageMissingError(f"no image {image!r} under {self.root}; run the tasks stage that makes it")
        return path

    def _store(self, name: str, digest: str, fill: Callable[[Path], None]) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"image name {name!r}: use letters, digits and . _ + = @ - only")
        target = self.root / name
        if target.is_dir():
            return self._check_same(name, digest)
        self.root.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".building-{name}-", dir=self.root))
        try:
            building.chmod(0o755)
            fill(building)
            _commit(building)
            (building / DIGEST_FILE).write_text(digest, encoding="ascii")
            building.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            return self._check_same(name, digest)  # another process was faster
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return PREFIX + name

    def _check_same(self, name: str, digest: str) -> str:
        if (self.root / name / DIGEST_FILE).read_text(encoding="ascii") != digest:
            raise ValueError(f"image {name} under {self.root} holds other files; remove it or choose another name")
        return PREFIX + name


def _walk(root: Path) -> list[Path]:
    """Files and symlinks under `root`, sorted, without caches and repositories."""
    found = []
    for folder, dirs, files in os.walk(root):
        links = [name for name in dirs if os.path.islink(os.path.join(folder, name))]
        dirs[:] = [name for name in dirs if name not in SKIPPED_DIRS and name not in links]
        found += [Path(folder, name) for name in files + links if not name.endswith(".pyc")]
    return sorted(found)


def _commit(tree: Path) -> None:
    """Turn `tree` into a repository of one commit with fixed author, date and file times."""
    for folder, _, files in os.walk(tree):
        for name in files:
            os.utime(os.path.join(folder, name), (EPOCH, EPOCH), follow_symlinks=False)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
    environment |= {"HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {
            f"GIT_{role}_NAME": "developer",
            f"GIT_{role}_EMAIL": "developer@localhost",
            f"GIT_{role}_DATE": f"{EPOCH} +0000",
        }
    done = subprocess.run(["sh", "-c", MAKE_REPOSITORY], cwd=tree, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"cannot make a git repository in {tree}: {done.stderr.strip() or 'is git installed?'}")
    (tree / ".git/COMMIT_EDITMSG").unlink(missing_ok=True)
    base_ref = tree / ".git" / BASE_REF
    base_ref.parent.mkdir()
    shutil.copyfile(tree / ".git/refs/heads/main", base_ref)
