import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envpool.sandbox_errors import ImageMissingError
from envpool.sandbox_parts.image_cache import FolderImages

FILES = {"calc.py": "x = 1\n", "pkg/run.sh": "#!/bin/sh\necho hi\n", ".gitignore": "*.log\n", "kept.log": "é"}


def git(tree: Path, *arguments: str) -> str:
    command = ["git", "-c", "safe.directory=*", *arguments]
    return subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True, timeout=30).stdout


def test_image_is_a_single_commit_with_nothing_else(images: FolderImages) -> None:
    assert images.add("demo", FILES) == "folder:demo"
    tree = images.path("folder:demo")
    assert {path: (tree / path).read_text() for path in FILES} == FILES
    assert git(tree, "ls-files").split() == [".gitignore", "calc.py", "kept.log", "pkg/run.sh"]
    assert git(tree, "status", "--porcelain") == ""
    assert git(tree, "rev-list", "--all").split() == [git(tree, "rev-parse", "refs/swe-master/base").strip()]
    assert git(tree, "log", "--format=%an %ae %at %s") == "developer developer@localhost 1704067200 Initial commit\n"
    assert (git(tree, "remote"), git(tree, "reflog"), git(tree, "tag")) == ("", "", "")
    assert not (tree / ".git/hooks").exists()
    assert os.access(tree / "pkg/run.sh", os.X_OK)
    assert not os.access(tree / "calc.py", os.X_OK)


def test_commit_depends_on_the_files_only(images: FolderImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = git(images.path(images.add("one", FILES)), "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "someone")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    other = FolderImages(tmp_path / "elsewhere")
    image = other.add("two", dict(reversed(FILES.items())))
    monkeypatch.undo()
    assert git(other.path(image), "rev-parse", "HEAD") == first
    assert git(images.path(images.add("three", {"calc.py": "x = 2\n"})), "rev-parse", "HEAD") != first


def test_adding_again_is_free_and_other_files_are_refused(images: FolderImages) -> None:
    images.add("demo", FILES)
    before = (images.path("folder:demo") / ".git/index").stat().st_mtime_ns
    assert images.add("demo", FILES) == "folder:demo"
    assert (images.path("folder:demo") / ".git/index").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"demo .*holds other files"):
        images.add("demo", {"calc.py": "x = 2\n"})


def test_many_writers_make_one_image(images: FolderImages) -> None:
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: images.add("demo", FILES), range(8))) == {"folder:demo"}
    assert [path.name for path in images.root.iterdir()] == ["demo"]


@pytest.mark.parametrize("path", ["../up.py", "/abs.py", "a/../../b", "", ".git/config"])
def test_paths_outside_the_tree_are_refused(images: FolderImages, path: str) -> None:
    with pytest.raises(ValueError, match="not a path inside"):
        images.add("demo", {path: "x"})
    assert not images.root.exists() or list(images.root.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b"])
def test_names_that_are_no_folder_are_refused(images: FolderImages, name: str) -> None:
    with pytest.raises(ValueError, match="image name"):
        images.add(name, FILES)
    with pytest.raises(ImageMissingError):
        images.path(f"folder:{name}")


def test_missing_image(images: FolderImages) -> None:
    images.add("demo", FILES)
    for image in ("folder:other", "docker:demo", "demo"):
        with pytest.raises(ImageMissingError, match=image):
            images.path(image)


def test_tree_of_a_package(images: FolderImages, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for path in ("pkg/__init__.py", "pkg/__pycache__/x.pyc", ".git/config", "tests/test_a.py", "old.pyc"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(path)
    (source / "tests/test_a.py").chmod(0o755)
    (source / "link").symlink_to("pkg/__init__.py")
    (source / "linked_dir").symlink_to("pkg")
    tree = images.path(images.add_tree("real", source))
    assert git(tree, "ls-files").split() == ["link", "linked_dir", "pkg/__init__.py", "tests/test_a.py"]
    assert (os.readlink(tree / "link"), os.access(tree / "tests/test_a.py", os.X_OK)) == ("pkg/__init__.py", True)
    assert images.add_tree("real", source) == "folder:real"
    (source / "pkg/__init__.py").write_text("changed")
    with pytest.raises(ValueError, match="holds other files"):
        images.add_tree("real", source)
