"""Writing diffs that `git apply` reads."""

import difflib
import re

_LINE = re.compile(r"[^\n]*\n|[^\n]+")  # at \n only: form feeds and lone carriage returns are part of a line for git


def file_diff(path: str, before: str | None, after: str | None) -> str:
    """The diff of one file in git's format; None stands for a file that does not exist. Equal contents give "".

    >>> print(file_diff("a.py", "x = 1\\n", "x = 2\\n"), end="")
    diff --git a/a.py b/a.py
    --- a/a.py
    +++ b/a.py
    @@ -1 +1 @@
    -x = 1
    +x = 2
    """
    if before == after:
        return ""
    header = [f"diff --git a/{path} b/{path}\n"]
    if before is None:
        header.append("new file mode 100644\n")
    if after is None:
        header.append("deleted file mode 100644\n")
    old_name = "/dev/null" if before is None else f"a/{path}"
    new_name = "/dev/null" if after is None else f"b/{path}"
    body = difflib.unified_diff(_LINE.findall(before or ""), _LINE.findall(after or ""), old_name, new_name)
    lines = [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in body]
    return "".join(header + lines)
