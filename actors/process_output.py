"""What a child process said when it failed. vLLM's engine core dies in its own process, its parent only learns that."""

import os
import re
from pathlib import Path

_ERROR = re.compile(r"(?:^|[\s\]])((?:[A-Za-z_]+\.)*[A-Za-z_]*(?:Error|Exception): \S.*)$", re.MULTILINE)
_SAYS_NOTHING = ("Engine core initialization failed", "EngineCore encountered an issue", "raise ", "cancelled")
_MAX_BYTES = 1 << 20


class OutputMark:
    """Remembers where this process's output files (a Ray worker's logs, which its children share) end now."""

    def __init__(self) -> None:
        self._ends: dict[Path, int] = {}
        for descriptor in (1, 2):
            path = Path(f"/proc/self/fd/{descriptor}")
            if path.is_file():  # neither a terminal nor a pipe
                self._ends[Path(os.readlink(path))] = path.stat().st_size

    def first_error(self) -> str:
        """The first exception line written since; empty when there is none or output is not a file."""
        for path, end in self._ends.items():
            try:
                with path.open("rb") as file:
                    file.seek(end)
                    text = file.read(_MAX_BYTES).decode("utf-8", "replace")
            except OSError:
                continue
            if found := first_error_in(text):
                return found
        return ""


def first_error_in(text: str) -> str:
    """The first line of a log that names an exception and says something.

    >>> first_error_in("(EngineCore pid=7) ERROR [core.py:9] ValueError: No memory for the cache\\nRuntimeError: it died\\n")
    'ValueError: No memory for the cache'
    """
    lines = (match.group(1).strip() for match in _ERROR.finditer(text))
    return next((line for line in lines if not any(words in line for words in _SAYS_NOTHING)), "")
