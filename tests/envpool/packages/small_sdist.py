"""A small package as an sdist, for the tests of package tasks."""

import io
import tarfile
from pathlib import Path

SDIST = {
    "PKG-INFO": "Metadata-Version: 2.1\nName: tiny_calc\nVersion: 1.5\nLicense: MIT\n\nA README.\n",
    "src/tiny_calc/__init__.py": (
        'def total(prices, tax):\n    """Sum with tax."""\n    return sum(prices) + tax\n\n\n'
        "def rebate(price):\n    return price // 10\n"
    ),
    "src/tiny_calc/unused.py": "def never(a):\n    return a + 1\n",
    "tests/test_total.py": (
        "from tiny_calc import total\n\n\ndef test_total_adds_the_tax():\n    assert total([1, 2], 3) == 6\n\n\n"
        "def test_total_without_tax():\n    assert total([5], 0) == 5\n"
    ),
    "tests/test_rebate.py": "from tiny_calc import rebate\n\n\ndef test_rebate():\n    assert rebate(105) == 10\n",
    "tests/test_flaky.py": "def test_always_fails():\n    assert False\n",
    "tests/test_elsewhere.py": "import package_that_is_not_there\n",
    "pyproject.toml": '[tool.pytest.ini_options]\naddopts = "--option-of-a-plugin-that-is-not-there"\n',
}


def write_sdist(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{path.name.removesuffix('.tar.gz')}/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path
