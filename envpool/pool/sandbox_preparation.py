"""From a started image to a task's start state: its set-up, then, for an agent, no hidden files and no history.

An image of a dataset holds the repository with its whole history, in which the fix may be found (SWE-Master blocks `git log`
by its name and leaves everything else open). Here the history is gone before the agent starts: one commit without parents,
no reflog, remote, tag, alternate or pack of the old repository. No command needs to be forbidden.
"""

import secrets
import shlex

from envpool.git_scrub import GIT
from envpool.preparation import Preparation
from envpool.sandbox import Sandbox
from envpool.sandbox_errors import SandboxStartError
from envpool.sandbox_parts.image_cache import BASE_REF, PREFIX

SETUP_TIMEOUT_S = 300.0
SCRUB_TIMEOUT_S = 300.0

# A new repository is built beside the old one, which is removed and never renamed: on an overlay file system a rename copies
# it first. What the old index tracks is added even where .gitignore names it; submodules lose their repositories.
SCRUB = f"""(
cd -- WORKDIR || exit 90
[ -e .git ] || exit 0
umask 022
list=.tracked-NONCE new=.scrubbed-NONCE
{GIT} ls-files -z --stage 2>/dev/null | tr '\\0' '\\n' | sed -n 's/^160000 [0-9a-f]* 0\\t//p' | while IFS= read -r module; do
    rm -rf -- "$module/.git"
done
{GIT} ls-files -z > "$list" 2>/dev/null || : > "$list"
mkdir "$new" || exit 91
set -- {GIT} --git-dir="$new" --work-tree=.
"$@" init -q --template= . || exit 92
"$@" symbolic-ref HEAD refs/heads/main
printf '[core]\\n\\tlogAllRefUpdates = false\\n[gc]\\n\\tauto = 0\\n[maintenance]\\n\\tauto = false\\n\
[user]\\n\\tname = developer\\n\\temail = developer@localhost\\n' >> "$new/config"
mkdir -p "$new/info"
[ -f .git/info/exclude ] && cat .git/info/exclude > "$new/info/exclude"
printf '%s\\n' "/$new" "/$list" /.git >> "$new/info/exclude"
"$@" add -A . 2>/dev/null
[ -s "$list" ] && xargs -0 sh -c 'for file; do [ -e "$file" ] || [ -L "$file" ] && printf "%s\\0" "$file"; done' sh < "$list" \
    | xargs -0 -r "$@" add -f -- 2>/dev/null
GIT_AUTHOR_DATE='1704067200 +0000' GIT_COMMITTER_DATE='1704067200 +0000' "$@" commit -q --no-verify --allow-empty \
    -m 'Initial commit' || exit 93
"$@" update-ref {BASE_REF} HEAD || exit 94
rm -f -- "$list"
rm -rf -- .git || exit 95
mv -- "$new" .git || exit 96
{GIT} config --unset core.worktree
rm -f .git/COMMIT_EDITMSG
[ "$({GIT} rev-list --all --count)" = 1 ] || exit 97
)"""


async def set_up(sandbox: Sandbox, preparation: Preparation, instance_id: str) -> None:
    """Run the task's set-up script. Raises SandboxStartError when it fails: the task cannot be played in this image."""
    if preparation.setup_script:
        command = f"cd {shlex.quote(sandbox.workdir)} || exit 90\n{preparation.setup_script}"
        result = await sandbox.run(f"({command}\n) </dev/null", SETUP_TIMEOUT_S)
        if result.exit_code != 0:
            raise SandboxStartError(f"{instance_id}: its set-up ended with {result.exit_code}: {result.output[-300:].strip()}")


async def prepare_for_agent(sandbox: Sandbox, image: str, preparation: Preparation, instance_id: str) -> None:
    """The start state an agent may see: set up, hidden paths removed, history replaced by one commit.

    `folder:` images hold a single commit already; theirs is made anew only when something changed. Raises SandboxStartError.
    """
    await set_up(sandbox, preparation, instance_id)
    if preparation.hidden_paths:
        paths = " ".join(map(shlex.quote, preparation.hidden_paths))
        workdir = shlex.quote(sandbox.workdir)
        result = await sandbox.run(
            f'(cd {workdir} && rm -rf -- {paths}; for p in {paths}; do [ ! -e "$p" ] || exit 1; done)', SETUP_TIMEOUT_S
        )
        if result.exit_code != 0:
            raise SandboxStartError(f"{instance_id}: its hidden files cannot be removed: {result.output[-300:].strip()}")
    changed = bool(preparation.setup_script or preparation.hidden_paths)
    if changed or not image.startswith(PREFIX):
        await scrub_history(sandbox, instance_id)


async def scrub_history(sandbox: Sandbox, instance_id: str) -> None:
    """Replace the repository in the workdir by one with a single commit of what is there. Raises SandboxStartError.

    The work tree stays as it is, byte for byte; untracked files that are not ignored become part of the commit, so that they
    are in no patch. A workdir without a repository is left alone.
    """
    script = SCRUB.replace("WORKDIR", shlex.quote(sandbox.workdir)).replace("NONCE", secrets.token_hex(6))
    result = await sandbox.run(script, SCRUB_TIMEOUT_S)
    if result.exit_code != 0:
        raise SandboxStartError(
            f"{instance_id}: the git history cannot be removed (step {result.exit_code}): {result.output[-300:].strip()}"
        )
