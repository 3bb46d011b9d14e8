"""Every example of the documents is run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.docs.examples import ROOT, Block, blocks, compare, run
from tests.faults.server import free_port

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
WITH_EXAMPLES = [each for each in DOCUMENTS if any(not block.reason for block in blocks(each.read_text("utf-8")))]


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.engine
@pytest.mark.parametrize("document", WITH_EXAMPLES, ids=name_of)
def test_the_examples_run(document: Path, tmp_path: Path, busybox: None, request: pytest.FixtureRequest) -> None:
    port = str(free_port())
    replaced = {
        "8090": port,
        "runtime-server 2>": f"RUNTIME_SERVER_PORT={port} RUNTIME_SERVER_WORKERS=1 runtime-server 2>",
    }
    if "registry.example.com" in document.read_text("utf-8"):
        replaced |= request.getfixturevalue("registry")
    run(document, tmp_path, replaced, url=f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_what_is_not_run_is_valid_all_the_same(document: Path) -> None:
    for block in blocks(document.read_text("utf-8")):
        if block.language == "python":
            compile(block.code, document.name, "exec")
        elif block.language == "sh":
            subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)


TEXT = """
```sh
echo one
```

```output
on…
```

<!-- sh
true
-->

```python no-run: it needs the moon
import moon
```
"""


def test_blocks_are_found_with_their_output() -> None:
    assert blocks(TEXT) == [
        Block("sh", 2, "echo one\n", "", "on…\n"),
        Block("sh", 10, "true\n"),
        Block("python", 14, "import moon\n", "it needs the moon"),
    ]


def test_a_block_that_is_left_out_says_why() -> None:
    with pytest.raises(AssertionError, match="needs a reason"):
        blocks("```sh no-run\ntrue\n```\n")


def test_another_output_than_the_documents_is_an_error() -> None:
    block = blocks(TEXT)[0]
    compare("x", block, "one\n")
    with pytest.raises(AssertionError, match="printed"):
        compare("x", block, "two\n")


@pytest.mark.parametrize("code", ["false", "exit 3", "python -c 'raise SystemExit(1)'", "false | cat"])
def test_an_example_that_fails_is_an_error(code: str, tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(f"```sh\necho begun\n{code}\n```\n")
    (tmp_path / "run").mkdir()
    with pytest.raises(AssertionError, match="line 1: exit"):
        run(document, tmp_path / "run", {})
