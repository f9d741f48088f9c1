"""The reason of a failed start is the first exception of the child, not the parent's shrug."""

import subprocess
import sys
from pathlib import Path

from actors.process_output import first_error_in

LOG = """\
(EngineCore pid=93) ERROR 11-22 17:03:59 [core.py:1512] EngineCore failed to start.
(EngineCore pid=93) ERROR 11-22 17:03:59 [core.py:1512] Traceback (most recent call last):
(EngineCore pid=93) ERROR 11-22 17:03:59 [core.py:1512]     raise ValueError(text)
(EngineCore pid=93) ERROR 11-22 17:03:59 [core.py:1512] ValueError: 5 heads cannot share 2 keys
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


def test_the_childs_exception_is_found() -> None:
    assert first_error_in(LOG) == "ValueError: 5 heads cannot share 2 keys"


def test_a_log_without_an_exception_says_nothing() -> None:
    assert first_error_in("INFO all is well\nRuntimeError: Engine core initialization failed.\n") == ""


def test_only_what_was_written_after_the_mark_counts(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "from actors.process_output import OutputMark\n"
        "print('ValueError: an old one', flush=True)\n"
        "mark = OutputMark()\n"
        "subprocess.run([sys.executable, '-c', 'raise KeyError(5)'])\n"
        "open(sys.argv[1], 'w').write(mark.first_error())\n"
    )
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([sys.executable, "-c", code, tmp_path / "found"], stdout=log, stderr=log, check=True, timeout=60)
    assert (tmp_path / "found").read_text() == "KeyError: 5"
