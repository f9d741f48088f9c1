"""How long lsp_tool takes: `python -m benchmarks.lsp_latency [--files 200] [--calls 30] [--languages python cpp] [--json]`.

For each language whose server is installed, a generated project in a process sandbox: the first answer (copying the files and
starting the server included), then answers by command with the project unchanged, then a definition right after a shell
command has edited the file that it leads to. Milliseconds of wall time; the machine's load stands beside them.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from configs.lsp_config import LspConfig
from configs.sandbox_config import SandboxConfig
from envpool.language_servers import LANGUAGE_SERVERS
from envpool.lsp.lsp_process import tree_size
from envpool.sandbox import Sandbox
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.tool import ToolLimits
from envpool.tools.lsp_tool import LspTool

LIMITS = ToolLimits(timeout_s=240.0, max_observation_bytes=100_000, compact=False)
METHODS = 8
"""Functions in every file besides the one that calls into the file before."""


def python_file(index: int) -> tuple[str, str]:
    """A class, and a function that calls the function of the file before; the same in the other languages."""
    name, before = f"{index:03d}", f"{index - 1:03d}"
    above = f"from pkg.part{before} import value{before}" if index else "import os"
    call = f"value{before}(number)" if index else "len(os.sep) + number"
    lines = [
        above,
        "",
        "",
        f"class Part{name}:",
        "    def __init__(self, number: int) -> None:",
        "        self.number = number",
        "",
    ]
    for method in range(METHODS):
        lines += [f"    def step{method}(self, count: int) -> int:", f'        """Step {method}."""']
        lines += [f"        return self.number * {method} + count", ""]
    lines += ["", f"def value{name}(number: int) -> int:", f"    return {call} + Part{name}(number).step1(2)", ""]
    return f"pkg/part{name}.py", "\n".join(lines)


def typescript_file(index: int) -> tuple[str, str]:
    name, before = f"{index:03d}", f"{index - 1:03d}"
    call = f"value{before}(count)" if index else "count"
    lines = [f'import {{ value{before} }} from "./part{before}";' if index else "// The first.", ""]
    lines += [f"export class Part{name} {{", "  constructor(private readonly side: number) {}"]
    for method in range(METHODS):
        lines += ["", f"  step{method}(count: number): number {{", f"    return this.side * {method} + count;", "  }"]
    lines += ["}", "", f"export function value{name}(count: number): number {{"]
    lines += [f"  return {call} + new Part{name}(count).step1(2);", "}", ""]
    return f"src/part{name}.ts", "\n".join(lines)


def cpp_file(index: int) -> tuple[str, str]:
    name, before = f"{index:03d}", f"{index - 1:03d}"
    call = f"value{before}(count)" if index else "count"
    lines = ['#include "shared.hpp"', f"int value{before}(int count);" if index else "// The first.", ""]
    lines += [f"struct Part{name} {{", "  int side;"]
    lines += [f"  int step{method}(int count) const {{ return side * {method} + count; }}" for method in range(METHODS)]
    lines += ["};", "", f"int value{name}(int count) {{", f"  return {call} + Part{name}{{count}}.step1(2);", "}", ""]
    return f"src/part{name}.cpp", "\n".join(lines)


def go_file(index: int) -> tuple[str, str]:
    name, before = f"{index:03d}", f"{index - 1:03d}"
    call = f"value{before}(count)" if index else "count"
    lines = ["package parts", "", f"type Part{name} struct {{", "\tside int", "}"]
    for method in range(METHODS):
        lines += ["", f"func (p Part{name}) step{method}(count int) int {{", f"\treturn p.side*{method} + count", "}"]
    lines += ["", f"func value{name}(count int) int {{", f"\treturn {call} + Part{name}{{count}}.step1(2)", "}", ""]
    return f"parts/part{name}.go", "\n".join(lines)


PROJECTS: dict[str, tuple[Any, dict[str, str]]] = {
    "python": (python_file, {"pkg/__init__.py": ""}),
    "typescript": (typescript_file, {"tsconfig.json": '{"compilerOptions": {"strict": true}, "include": ["src"]}\n'}),
    "cpp": (cpp_file, {"include/shared.hpp": "#pragma once\n#include <vector>\n"}),
    "go": (go_file, {"go.mod": "module example.org/parts\n\ngo 1.19\n"}),
}


async def measure(language: str, num_files: int, num_calls: int) -> dict[str, Any]:
    """One row; times in milliseconds."""
    make, extra = PROJECTS[language]
    files = {**extra, **dict(make(index) for index in range(num_files))}
    with tempfile.TemporaryDirectory() as folder:
        backend = ProcessBackend(SandboxConfig(), images := FolderImages(Path(folder)), owner="lsp-latency")
        try:
            sandbox = await backend.start(images.add(language, files), "/testbed")
            tool = LspTool().opened(LspConfig(memory_mib=6144))
            try:
                return await measure_calls(tool, sandbox, language, num_files, num_calls)
            finally:
                await tool.close()
        finally:
            await backend.close()


async def measure_calls(tool: LspTool, sandbox: Sandbox, language: str, num_files: int, num_calls: int) -> dict[str, Any]:
    make, _ = PROJECTS[language]

    async def call(command: str, index: int, wanted: str = "") -> float:
        path, text = make(index)
        symbol = f"value{index - 1:03d}"
        line = next(number for number, line in enumerate(text.split("\n"), 1) if f"{symbol}(" in line and "return" in line)
        arguments = {"command": command, "file_path": path, "line": str(line), "symbol": symbol, "query": f"Part{index:03d}"}
        began = time.perf_counter()
        told = (await tool(sandbox, arguments, LIMITS)).text
        took = (time.perf_counter() - began) * 1000
        if "Status: success" not in told or "nothing found" in told or wanted not in told:
            raise RuntimeError(f"{language} {command}: no answer to measure: {told[:300]}")
        return took

    row: dict[str, Any] = {"language": language, "files": num_files, "first_answer": await call("get_definition", num_files // 2)}
    # The server has read some files now; the first question of each kind may read more of them, and is shown apart.
    commands = (
        "get_definition",
        "get_hover",
        "get_document_symbols",
        "get_references",
        "get_workspace_symbols",
        "get_call_hierarchy",
    )
    for command in (*commands, "get_diagnostics"):
        first = await call(command, num_files // 2 + 1)
        times = sorted([await call(command, 1 + (7 * index) % (num_files - 1)) for index in range(num_calls)])
        row[command] = {"first": first, "p50": statistics.median(times), "p95": times[int(0.95 * (len(times) - 1))]}
    times = []
    for index in range(num_calls):
        number = 2 + (11 * index) % (num_files - 2)
        path, text = make(number - 1)
        await sandbox.run(f"sed -i '2i\\\\' {path}", 20)
        line = next(
            at for at, line in enumerate(text.split("\n"), 1) if f"value{number - 1:03d}(" in line and "return" not in line
        )
        edited_before = sum(index_of(earlier, num_files) == number for earlier in range(index))
        times.append(await call("get_definition", number, f"line {line + 1 + edited_before} in"))
    row["definition_after_edit"] = {
        "first": times[0],
        "p50": statistics.median(times),
        "p95": sorted(times)[int(0.95 * (len(times) - 1))],
    }
    assert tool.sessions is not None
    count, resident_mib = tree_size(tool.sessions[sandbox].running[language].pids[0])
    return {**row, "processes": count, "resident_mib": resident_mib}


def index_of(index: int, num_files: int) -> int:
    """Which file the edit number `index` is followed by a question about."""
    return 2 + (11 * index) % (num_files - 2)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--languages", nargs="+", default=list(PROJECTS), choices=list(PROJECTS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for language in options.languages:
        if LANGUAGE_SERVERS[language].launch("/tmp", ()) is None:
            print(f"{language}: no server is installed; {LANGUAGE_SERVERS[language].install_hint}", file=sys.stderr)
            continue
        load = os.getloadavg()[0]
        row = await measure(language, options.files, options.calls)
        rows.append({**row, "load_before": load, "load_after": os.getloadavg()[0], "cpus": os.cpu_count()})
        if not options.json:
            print(f"{language}, {options.files} files: first answer {row['first_answer']:.0f} ms, {row['resident_mib']} MiB")
            print(f"  load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
            for name, value in row.items():
                if isinstance(value, dict):
                    print(f"  {name:<24} first {value['first']:7.0f}   p50 {value['p50']:7.1f}   p95 {value['p95']:7.1f}")
    if options.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    asyncio.run(main())
