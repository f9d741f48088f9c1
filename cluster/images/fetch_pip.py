"""Puts pip into the virtual environment that runs this, where Python came without ensurepip."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request


def main() -> None:
    """Download pip's wheel from PyPI and let it install itself."""
    with urllib.request.urlopen("https://pypi.org/pypi/pip/json", timeout=60) as answer:
        release = json.load(answer)
    wheel = next(file for file in release["urls"] if file["packagetype"] == "bdist_wheel")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, wheel["filename"])
        with urllib.request.urlopen(wheel["url"], timeout=120) as answer, open(path, "wb") as file:
            file.write(answer.read())
        subprocess.run([sys.executable, f"{path}/pip", "install", "-q", "--no-index", path], check=True, timeout=300)


if __name__ == "__main__":
    main()
