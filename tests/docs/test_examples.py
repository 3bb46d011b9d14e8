"""Every example of the documents is run."""

from __future__ import annotations

import compileall
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docs.examples import ROOT, TIMEOUT, Block, blocks, compare, not_run, run
from tests.docs.places import PLACES, Place
from tests.docs.test_links import documents
from tests.faults.server import free_port

DOCUMENTS = documents()
WITH_EXAMPLES = [each for each in DOCUMENTS if any(not block.reason for block in blocks(each.read_text("utf-8")))]
AT_ONCE = 3
"""Documents whose examples run at the same time: mostly they wait, for an engine or for a server to start."""


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def run_document(document: Path, folder: Path, place: Place) -> None:
    port = str(free_port())
    own = f"RUNTIME_SERVER_PORT={port} RUNTIME_SERVER_WORKERS=1"
    replaced = {**place.replaced, "8090": port, "runtime-server 2>": f"{own} runtime-server 2>"}
    url = f"http://127.0.0.1:{port}" if place.by_port else ""
    if url:
        replaced["https://runtimes.example.com"] = url
    run(document, folder, replaced, url=url, before=place.before)


@pytest.fixture(scope="session")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, busybox: None
) -> Iterator[Mapping[Path, Future[None]]]:
    """Those of all documents that were asked for."""
    calls = [getattr(each, "callspec", None) for each in request.session.items]
    wanted = {call.params["document"] for call in calls if call and "document" in call.params} & {*WITH_EXAMPLES}
    compileall.compile_dir(ROOT / "runtime_server", quiet=2)  # once, and not in each copy of the tree
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = {}
        for document in sorted(wanted, key=lambda each: -each.stat().st_size):  # so that none is long the last
            make = PLACES.get(name_of(document))
            place = request.getfixturevalue(make) if make else Place()
            made[document] = pool.submit(run_document, document, tmp_path_factory.mktemp("examples"), place)
        try:
            yield made
        finally:
            pool.shutdown(cancel_futures=True)


@pytest.mark.engine
@pytest.mark.parametrize("document", WITH_EXAMPLES, ids=name_of)
def test_the_examples_run(document: Path, runs: Mapping[Path, Future[None]]) -> None:
    runs[document].result(len(WITH_EXAMPLES) * TIMEOUT)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_no_example_hides(document: Path) -> None:
    if document.parent.name != "reference":  # those are the commands' own help, which tests/cli reads
        assert not_run(document.read_text("utf-8")) == []


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


@pytest.mark.parametrize("language", ["", "bash", "console"])
def test_a_block_of_no_known_language_is_an_error(language: str) -> None:
    with pytest.raises(AssertionError, match="line 1: a block of"):
        blocks(f"```{language}\ntrue\n```\n")


def test_examples_that_would_be_run_by_nobody_are_found() -> None:
    assert not_run(f"{TEXT}\n    curl x\n") == ["    curl x"]
    assert not_run("```text\na\n$ curl x\n```\n") == ["$ curl "]
    assert not_run(f"{TEXT}\n- one\n  ```text\n  a    b\n  ```\n") == []


def test_another_output_than_the_documents_is_an_error() -> None:
    block = blocks(TEXT)[0]
    compare("x", block, "one\n")
    with pytest.raises(AssertionError, match="printed"):
        compare("x", block, "two\n")


@pytest.mark.parametrize("code", ["false", "python -c 'raise SystemExit(1)'", "false | cat"])
def test_an_example_that_fails_is_an_error(code: str, tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(f"```sh\necho begun\n{code}\n```\n")
    (tmp_path / "run").mkdir()
    with pytest.raises(AssertionError, match="line 1: exit"):
        run(document, tmp_path / "run", {})
