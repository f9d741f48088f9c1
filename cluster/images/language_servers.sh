#!/bin/sh
# Installs the language servers behind lsp_tool where sandboxes run: language_servers.sh [check]
#
# Debian or Ubuntu as root (or with sudo): clangd, gopls, golang-go, nodejs, npm and bubblewrap by apt-get; TypeScript (below 7:
# version 7 has no tsserver) and typescript-language-server by npm; basedpyright by pip into .venv. A machine without one of these
# does without that language. `check` only says what is there.
set -u

ROOT=$(cd "$(dirname "$0")/../.." && pwd -P)
PYTHON=$ROOT/.venv/bin/python
say() { printf 'language-servers: %s\n' "$*" >&2; }

check() {
    missing=0
    for name in bwrap clangd gopls go node typescript-language-server; do
        if command -v "$name" >/dev/null; then say "$name: $(command -v "$name")"; else say "$name: missing"; missing=1; fi
    done
    if "$PYTHON" -c 'import basedpyright' 2>/dev/null; then say "basedpyright: in .venv"; else say "basedpyright: missing"; missing=1; fi
    return $missing
}

[ "${1:-}" != check ] || { check; exit $?; }

as_root=
[ "$(id -u)" -eq 0 ] || as_root=sudo
if [ -n "$as_root" ] && ! command -v sudo >/dev/null; then
    say "not root, and there is no sudo: only basedpyright is installed"
elif command -v apt-get >/dev/null; then
    packages=
    command -v bwrap >/dev/null || packages="$packages bubblewrap"
    command -v clangd >/dev/null || packages="$packages clangd"
    command -v gopls >/dev/null || packages="$packages gopls"
    command -v go >/dev/null || packages="$packages golang-go"
    command -v node >/dev/null || packages="$packages nodejs"
    command -v npm >/dev/null || packages="$packages npm"
    if [ -n "$packages" ]; then
        say "installing$packages"
        # shellcheck disable=SC2086
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -y -qq --no-install-recommends install $packages >/dev/null ||
            { $as_root apt-get -o DPkg::Lock::Timeout=300 -qq update && $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -y -qq --no-install-recommends install $packages >/dev/null; } ||
            say "apt-get cannot install$packages"
    fi
    if command -v npm >/dev/null && ! command -v typescript-language-server >/dev/null; then
        say "installing typescript-language-server"
        $as_root npm install -g --silent --no-fund --no-audit typescript@5.9.3 typescript-language-server@5.3.0 ||
            say "npm cannot install typescript-language-server"
    fi
else
    say "no apt-get here: install clangd, gopls, go, node and typescript-language-server with this system's package manager"
fi
if [ -x "$PYTHON" ] && ! "$PYTHON" -c 'import basedpyright' 2>/dev/null; then
    say "installing basedpyright"
    "$PYTHON" -m pip --disable-pip-version-check install -q -c "$ROOT/constraints.txt" basedpyright || say "pip cannot install basedpyright"
fi
check
