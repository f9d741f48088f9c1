import subprocess
import uuid
from pathlib import Path

import pytest

from envpool.sandbox_parts.control_groups import (
    ControlGroup,
    GroupLimits,
    _usable_parents,
    limited_controllers,
    remove_empty_groups,
)

LIMITS = GroupLimits(memory_mib=64, pids=20, cpus=0.5)


def test_version_2_file_contents() -> None:
    assert LIMITS.version_2() == {
        "memory.max": "67108864",
        "memory.swap.max": "0",
        "pids.max": "20",
        "cpu.max": "50000 100000",
    }


def test_version_1_file_contents() -> None:
    assert LIMITS.version_1("memory") == {"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "67108864"}
    assert LIMITS.version_1("pids") == {"pids.max": "20"}
    assert LIMITS.version_1("cpu") == {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}


def test_group_is_made_joined_and_removed(tmp_path: Path) -> None:
    group = ControlGroup("box", (("pids", tmp_path / "pids"), ("", tmp_path / "unified")))
    for name in ("pids", "unified"):
        (tmp_path / name).mkdir()
    group.make(LIMITS)
    assert (tmp_path / "pids/box/pids.max").read_text() == "20"
    assert (tmp_path / "unified/box/memory.max").read_text() == "67108864"
    assert not (tmp_path / "unified/box/memory.swap.max").exists()  # this "kernel" does not count swap
    command = group.joined(["/bin/sh", "-c", 'echo "$$ $0"', "told"])
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    pid, name = said.split()
    assert name == "told"
    for joined in ("pids", "unified"):
        assert (tmp_path / joined / "box/cgroup.procs").read_text() == f"{pid}\n"
    for file in tmp_path.rglob("*.*"):
        file.unlink()
    group.remove()
    group.remove()
    assert [folder.name for folder in tmp_path.rglob("box")] == []


def test_no_controller_changes_nothing() -> None:
    group = ControlGroup("box", ())
    group.make(LIMITS)
    assert group.joined(["ls", "-l"]) == ["ls", "-l"]
    group.remove()


def test_version_2_needs_all_controllers_enabled(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/user/me\n")
    folder = tmp_path / "user/me"
    folder.mkdir(parents=True)
    for enabled, expected in (("cpu pids", []), ("cpuset cpu memory pids", [("", folder)])):
        (folder / "cgroup.subtree_control").write_text(enabled + "\n")
        assert list(_usable_parents(tmp_path, own)) == expected


def test_version_1_takes_the_controllers_that_are_there(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("4:memory:/box\n3:pids:/\n1:cpu:/gone\n0::/\n")
    for name in ("memory/box", "pids"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "cgroup.procs").touch()
    assert list(_usable_parents(tmp_path, own)) == [("memory", tmp_path / "memory/box"), ("pids", tmp_path / "pids")]
    assert list(_usable_parents(tmp_path, tmp_path / "absent")) == []


@pytest.mark.skipif(not limited_controllers(), reason="this process may not make control groups")
def test_real_group_of_the_dead_is_removed_and_a_living_one_stays() -> None:
    prefix = f"swe-master-test{uuid.uuid4().hex[:8]}-"
    kept, empty, used = (ControlGroup(prefix + name) for name in ("kept", "empty", "used"))
    for group in (kept, empty, used):
        group.make(LIMITS)
    sleeper = subprocess.Popen(used.joined(["/bin/sh", "-c", "echo ready; exec sleep 60"]), stdout=subprocess.PIPE)
    try:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == b"ready\n"
        count = len(empty._folders)
        assert remove_empty_groups(prefix, lambda name: name == prefix + "kept") == count
    finally:
        sleeper.kill()
        sleeper.communicate(timeout=20)
        used.remove()
        kept.remove()
    assert remove_empty_groups(prefix, lambda name: False) == 0
