#!/usr/bin/env bash
# Makes .venv with everything for a CPU machine; a second run returns at once while setup.py and constraints.txt are unchanged.
set -euo pipefail
cd "$(dirname "$0")/../.."

fingerprint=$(cat setup.py constraints.txt cluster/images/make_venv.sh | sha256sum | cut -c1-16)
stamp=".venv/installed-$fingerprint"
[ -f "$stamp" ] && exit 0

python=""
for candidate in "${PYTHON:-}" python3.12 python3.11 python3; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || { echo "install: Python 3.11 or 3.12 is needed; set PYTHON=/path/to/python" >&2; exit 1; }

started=$(date +%s)
say() { echo "install [$(($(date +%s) - started)) s]: $*"; }

if [ ! -x .venv/bin/python ]; then
    say "creating .venv with $("$python" --version)"
    if ! "$python" -m venv .venv >/dev/null 2>&1; then
        # Debian's python3 without python3-venv has no ensurepip: fetch pip itself.
        rm -rf .venv
        "$python" -m venv --without-pip .venv
        .venv/bin/python cluster/images/pypi_fetch.py pip
    fi
fi
# Without --no-compile pip compiles every file of every package, most of which are never imported.
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

say "PyTorch for CPUs"
if ! pip install -q --no-compile "torch==2.13.0+cpu" 2>.venv/torch.log; then
    say "the configured index has no CPU build; using PyTorch's own CPU index"
    pip install -q --no-compile "torch==2.13.0+cpu" --index-url https://download.pytorch.org/whl/cpu --extra-index-url https://pypi.org/simple
fi
say "vLLM, Ray, DeepSpeed and the rest (2 to 3 minutes)"
DS_BUILD_OPS=0 pip install -q --no-compile -c constraints.txt -e ".[cpu,grade,dev]"
# These come as CUDA builds, are not used, and break `import transformers` beside CPU torch.
pip uninstall -q -y torchvision torchaudio torchcodec
.venv/bin/python -c "import torch, transformers, vllm" 2>.venv/import.log || { cat .venv/import.log >&2; exit 1; }
rm -f .venv/installed-*
touch "$stamp"
say "done"
