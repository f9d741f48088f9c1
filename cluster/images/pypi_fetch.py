"""Files straight from PyPI's simple index, where pip is missing or would build what it downloads. Standard library only.

pypi_fetch.py pip                              pip into this virtual environment (Debian's Python without ensurepip)
pypi_fetch.py sdist NAME VERSION FOLDER        a source archive, checked by its SHA-256
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin

INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")


class Links(HTMLParser):
    """The hrefs of an index page (PEP 503)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def download(project: str, wanted: str, folder: str) -> str:
    """Fetch the newest-listed file of `project` whose name matches the pattern `wanted`; returns its path."""
    page = f"{INDEX}/{project}/"
    with urllib.request.urlopen(page, timeout=60) as answer:
        links = Links()
        links.feed(answer.read().decode())
    urls = [urldefrag(urljoin(page, link)) for link in links.found]
    matching = [(url, fragment) for url, fragment in urls if re.fullmatch(wanted, url.rsplit("/", 1)[-1])]
    if not matching:
        raise SystemExit(f"{page} lists no file that matches {wanted}")
    url, fragment = matching[-1]
    with urllib.request.urlopen(url, timeout=120) as answer:
        data = answer.read()
    if fragment.startswith("sha256=") and hashlib.sha256(data).hexdigest() != fragment.removeprefix("sha256="):
        raise SystemExit(f"{url}: the download does not match its checksum")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, url.rsplit("/", 1)[-1])
    with open(f"{path}.part", "wb") as out:
        out.write(data)
    os.replace(f"{path}.part", path)
    return path


def main(words: list[str]) -> None:
    if words == ["pip"]:
        with tempfile.TemporaryDirectory() as folder:
            wheel = download("pip", r"pip-[0-9.]+-py3-none-any\.whl", folder)
            subprocess.run([sys.executable, f"{wheel}/pip", "install", "-q", "--no-index", wheel], check=True, timeout=300)
    elif words[:1] == ["sdist"] and len(words) == 4:
        print(download(words[1], re.escape(f"{words[1]}-{words[2]}.tar.gz"), words[3]))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
