"""A sandbox's changes as a patch, and a patch into a sandbox."""

import logging
import secrets
import shlex

from envpool.patch import Patch
from envpool.sandbox import ExecResult, Sandbox
from envpool.sandbox_errors import SandboxLostError
from envpool.sandbox_parts.image_cache import BASE_REF

logger = logging.getLogger(__name__)

MAX_PATCH_BYTES = 8 * 1024 * 1024
# The agent owns the repository's configuration: nothing in it may run or change the form of the diff.
GIT = (
    "git -c safe.directory='*' -c core.fsmonitor=false -c core.hooksPath=/dev/null -c core.quotePath=true "
    "-c diff.noprefix=false -c diff.mnemonicPrefix=false -c color.ui=false -c core.autocrlf=false"
)
LEFT_OUT = ("**/__pycache__/**", "**/*.pyc", "**/.pytest_cache/**")
PATHSPEC = " ".join(["--", ".", *(shlex.quote(f":(exclude,glob){pattern}") for pattern in LEFT_OUT)])
# A copy of the index is used: the agent's staging and a lock that a killed git left behind do not matter.
EXTRACT = f"""
cd -- WORKDIR && top=$({GIT} rev-parse --absolute-git-dir) || exit 90
index=$(mktemp) || exit 91
trap 'rm -f "$index" "$index.lock" "$index.attributes"' EXIT
echo '* -diff' > "$index.attributes"
base=$({GIT} rev-parse -q --verify {BASE_REF} || {GIT} rev-parse -q --verify HEAD) || exit 92
cp "$top/index" "$index" 2>/dev/null || GIT_INDEX_FILE=$index {GIT} read-tree "$base" || exit 93
export GIT_INDEX_FILE="$index"
{GIT} add -A {PATHSPEC} >/dev/null 2>&1 || exit 94
{GIT} DIFF_OPTIONS diff --cached --binary --no-color --no-ext-diff --no-textconv --no-renames "$base" {PATHSPEC} 2>/dev/null
"""
# A shell and an environment of its own: functions, GIT_* variables and a PATH that the agent set have no effect.
CLEAN_SHELL = (
    'command -p env -i PATH="/usr/local/bin:/usr/bin:/bin:$PATH" HOME="${HOME:-/}" TMPDIR="${TMPDIR:-/tmp}" LANG=C.UTF-8 sh -c '
)
APPLY = f"""(
cd -- WORKDIR || exit 90
patch=$(mktemp) || exit 91
trap 'rm -f "$patch"' EXIT
cat > "$patch" <<'HEREDOC_END' || exit 92
PATCH_TEXTHEREDOC_END
{GIT} apply --whitespace=nowarn "$patch" && exit 0
{GIT} apply --whitespace=nowarn --3way "$patch" && exit 0
test -z "$({GIT} ls-files --unmerged)" || {GIT} reset -q --merge  # takes conflict markers out again
if command -v patch >/dev/null && patch --batch --dry-run --fuzz=5 -p1 -i "$patch"; then
    patch --batch --no-backup-if-mismatch --fuzz=5 -p1 -i "$patch" && exit 0
fi
exit 1
)"""


async def extract_patch(sandbox: Sandbox, timeout_s: float) -> Patch:
    """All changes of the work tree against the image's commit, new files included, caches left out.

    A repository that the agent broke, or a patch over 8 MiB, gives the empty patch (logged): that is the agent's failure.
    Raises SandboxLostError when git takes longer than `timeout_s`.
    """
    result = await _extract(sandbox, "", timeout_s)
    _check_time(result, "extracting the patch", timeout_s)
    if result.exit_code == 0 and "\ufffd" in result.output:
        # Some file is not UTF-8, and a decoded diff would not apply: write every file as git's ASCII binary diff.
        result = await _extract(sandbox, '-c core.attributesFile="$index.attributes"', timeout_s)
        _check_time(result, "extracting the patch", timeout_s)
    if result.exit_code != 0:
        logger.info(
            "no patch can be read from %s: exit code %d, %s", sandbox.workdir, result.exit_code, result.output[:200].strip()
        )
        return Patch("")
    if result.truncated:
        logger.info("the patch in %s is larger than %d bytes and counts as empty", sandbox.workdir, MAX_PATCH_BYTES)
        return Patch("")
    return Patch(result.output)


async def apply_patch(sandbox: Sandbox, patch: Patch, timeout_s: float, folder: str = "") -> bool:
    """Apply to the work tree: git apply, then --3way, then patch(1) with fuzz where installed. False: it does not apply, and
    the tree is as it was. The empty patch applies. `folder` stands in place of the workdir. Raises SandboxLostError when it
    takes longer than `timeout_s`.
    """
    if patch.is_empty:
        return True
    heredoc = f"END_{secrets.token_hex(8)}"
    text = patch.diff if patch.diff.endswith("\n") else patch.diff + "\n"
    script = APPLY.replace("WORKDIR", shlex.quote(folder or sandbox.workdir))
    script = script.replace("HEREDOC_END", heredoc).replace("PATCH_TEXT", text)
    result = await sandbox.run(script, timeout_s)
    _check_time(result, "applying a patch", timeout_s)
    if result.exit_code != 0:
        logger.info("a patch does not apply: %s", result.output[:500].strip())
    return result.exit_code == 0


async def _extract(sandbox: Sandbox, options: str, timeout_s: float) -> ExecResult:
    script = EXTRACT.replace("WORKDIR", shlex.quote(sandbox.workdir)).replace("DIFF_OPTIONS", options)
    return await sandbox.run(CLEAN_SHELL + shlex.quote(script), timeout_s, MAX_PATCH_BYTES)


def _check_time(result: ExecResult, what: str, timeout_s: float) -> None:
    if result.timed_out:
        raise SandboxLostError(f"{what} took longer than {timeout_s:g} s")
