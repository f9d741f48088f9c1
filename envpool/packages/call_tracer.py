"""A pytest plugin that notes which functions of the working directory a run calls; it runs in a sandbox, from its own folder.

It writes `reached.json` beside itself: {"calls": [[path, first line], ...], "opaque": bool}. A function that is only called in
another process is not seen; a run that starts one says so (`opaque`).
"""

import json
import os
import sys
import threading
from types import CodeType, FrameType

RESULT_FILE = "reached.json"
_ROOT = os.path.realpath(os.getcwd()) + os.sep
_SPAWNS = frozenset({"subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec", "os.system", "os.spawn"})
_codes: dict[int, CodeType] = {}  # by id: hashing a code object is slow
_spawned: list[str] = []


def _trace(frame: FrameType, event: str, arg: object) -> None:
    code = frame.f_code
    if id(code) not in _codes:
        _codes[id(code)] = code


def _audit(event: str, args: object) -> None:
    if event in _SPAWNS:
        _spawned.append(event)


sys.addaudithook(_audit)
threading.settrace(_trace)
sys.settrace(_trace)


def pytest_unconfigure() -> None:
    """Stop, and write what was called."""
    sys.settrace(None)
    calls = set()
    for code in list(_codes.values()):
        path = os.path.realpath(code.co_filename)
        if path.startswith(_ROOT):
            calls.add((os.path.relpath(path, _ROOT).replace(os.sep, "/"), code.co_firstlineno))
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), RESULT_FILE), "w", encoding="utf-8") as file:
        json.dump({"calls": sorted(calls), "opaque": bool(_spawned)}, file)
