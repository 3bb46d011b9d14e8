"""Examples out of Markdown, and running them as a reader would: in order, in one shell for each document.

Run is what is in a fenced block of ``sh`` or ``python``, and in a comment that begins ``<!-- sh`` (what the reader
has done already). A block of ``output`` that follows one is what it prints; ``…`` stands for anything. What can't be
run says why: ``sh no-run: REASON``. A block of ``diff`` is applied. Each block is fenced and says its language: what
is only indented would be nobody's to run.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = {"sh", "python", "diff"}
SHOWN = {"output", "json", "text", "ini", "js"}
"""Languages of blocks that are read only."""
TIMEOUT = 300
"""Seconds that a document's examples may take."""

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$|^<!-- (?P<hidden>sh)\n(?P<setup>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)
_CACHES = (".git", ".tox", ".venv", ".*_cache", ".hypothesis", "build", "*.egg-info")
CACHES = shutil.ignore_patterns(*_CACHES)
"""What of a working tree is of no use to a copy; it keeps what Python has compiled."""
SOURCES = shutil.ignore_patterns(*_CACHES, "__pycache__")
"""What isn't in version control."""
_END = "for job in $(jobs -p); do kill $job 2>/dev/null || true; done; wait || true"
"""Ends what is left running."""


@dataclass(frozen=True)
class Block:
    """An example.

    Attributes:
        language: ``sh``, ``python`` or ``diff``.
        line: where it begins.
        reason: why it isn't run; empty: it is.
        output: what it prints, None where the document doesn't say.
    """

    language: str
    line: int
    code: str
    reason: str = ""
    output: str | None = None


def blocks(text: str) -> list[Block]:
    """A document's examples."""
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        line = text[: match.start()].count("\n") + 1
        if match["hidden"]:
            found.append(Block("sh", line, match["setup"]))
            continue
        language, _, more = match["info"].partition(" ")
        code = textwrap.dedent(match["code"])
        assert language in RUN | SHOWN, f"line {line}: a block of {language or 'no language'}"
        if language in RUN:
            word, _, reason = more.partition(": ")
            assert word in {"", "no-run"}, f"line {line}: {more}"
            assert bool(word) == bool(reason), f"line {line}: no-run needs a reason"
            found.append(Block(language, line, code, reason))
        elif language == "output":
            assert found, f"line {line}: an output of nothing"
            last = found.pop()
            found.append(Block(last.language, last.line, last.code, last.reason, code))
    return found


_COMMAND = re.compile(r"^ *(\$ |# |export |sudo )?(curl|docker|runtime-server|scripts/|pip|python3?) ", re.MULTILINE)


def not_run(text: str) -> list[str]:
    """What looks like an example, and would be none: indented blocks, and commands in blocks of ``text``."""
    rest = _BLOCK.sub("", text)
    found = [line for line in rest.splitlines() if re.match(r" {4,}\S", line)]
    for match in _BLOCK.finditer(text):
        if match["info"] == "text":
            found += [line.group() for line in _COMMAND.finditer(match["code"])]
    return found


def run(document: Path, folder: Path, replaced: Mapping[str, str], url: str = "", before: str = "") -> None:
    """Run a document's examples in a copy of the working tree, and compare what they print.

    Args:
        document: of the project.
        folder: for the copy and the home directory.
        replaced: texts of the examples that are otherwise here: ports, a registry's name.
        url: what the client and the command line take for this machine's server; empty: the usual address.
        before: what the shell is told before the first of them, to keep this machine as it is.
    """
    clone, home = folder / "clone", folder / "home"
    shutil.copytree(ROOT, clone, ignore=CACHES, symlinks=True)
    home.mkdir()
    examples = [each for each in blocks(document.read_text(encoding="utf-8")) if not each.reason]
    if not examples:
        return
    mark = secrets.token_hex(8)
    script = before + "".join(f"printf '\\n{mark} {each.line}\\n'\n{_shell(each, mark)}\n" for each in examples)
    for text, here in replaced.items():
        script = script.replace(text, here)
    own = ("RUNTIME_SERVER_", "XDG_")
    environment = {name: each for name, each in os.environ.items() if not name.startswith(own)}
    environment |= {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}:{_shim(folder)}",
        # What pip installs here is used once: compiling all of it would take longer than compiling what is imported.
        "PIP_NO_COMPILE": "0",
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip")),
        # The package of the working tree, where it isn't installed.
        "PYTHONPATH": str(clone),
    } | ({"RUNTIME_SERVER_URL": url} if url else {})
    with session(script, clone, environment) as process:
        said, _ = process.communicate(timeout=TIMEOUT)
    parts = re.split(rf"^{mark} (\d+)\n", said, flags=re.MULTILINE)
    last = parts[-2] if len(parts) > 1 else "?"
    assert process.returncode == 0, f"{document.name}, line {last}: exit {process.returncode}\n{said[-6000:]}"
    printed = dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))
    for each in examples:
        if each.output is not None:
            compare(document.name, each, printed[each.line])


@contextlib.contextmanager
def session(script: str, folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A shell that runs the script; it and all that it has left running end afterwards."""
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail"],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    path = folder / ".examples.sh"
    path.write_text(script, encoding="utf-8")
    assert process.stdin is not None
    process.stdin.write(f"trap '{_END}' EXIT\nsource {path} </dev/null\n")
    try:
        yield process
    finally:
        if Path(environment["HOME"], ".local/state/runtime-server").exists():
            subprocess.run(
                [sys.executable, "-m", "runtime_server", "purge", "--yes", "--workspaces"],
                env=dict(environment),
                cwd=folder,
                capture_output=True,
                check=False,
                timeout=TIMEOUT,
            )
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _shim(folder: Path) -> Path:
    """A folder with the program, for where the package isn't installed."""
    made = folder / "bin"
    made.mkdir()
    program = made / "runtime-server"
    program.write_text('#!/bin/sh\nexec python -m runtime_server "$@"\n')
    program.chmod(0o755)
    return made


_RUN = {"python": "python - ", "diff": "git apply - "}


def _shell(block: Block, mark: str) -> str:
    if block.language == "sh":
        return block.code
    return f"{_RUN[block.language]}<<'{mark}-{block.line}'\n{block.code}{mark}-{block.line}\n"


def compare(name: str, block: Block, printed: str) -> None:
    """See that a block printed what its document says."""
    assert block.output is not None
    wanted = ".*?".join(map(re.escape, block.output.strip().split("…")))
    assert re.fullmatch(wanted, printed.strip(), re.DOTALL), f"{name}, line {block.line} printed\n{printed}"
