"""Bars of pulls and builds, on a terminal and elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

import pytest
from pexpect.fdpexpect import fdspawn

from runtime_server.cli.progress import Bars, BuildSteps, show_pull
from runtime_server.models import PullStatus

LOG = """\
#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 36B done
#1 DONE 0.0s
[runtime-server] a line of the server's own
#2 [1/2] FROM docker.io/library/busybox
#2 sha256:0123456789abcdef 1.05MB / 2.10MB 0.2s
#2 CACHED
#3 [2/2] RUN false
#3 ERROR: process did not complete
"""


Terminal = Callable[[], "fdspawn[str]"]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, home: object) -> Iterator[Terminal]:
    """Makes stderr a terminal, and returns its other end; called by the test, since pytest has it before."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    with contextlib.ExitStack() as open_files:

        def make() -> fdspawn[str]:
            reader, writer = os.openpty()
            open_files.callback(os.close, reader)
            monkeypatch.setattr(sys, "stderr", open_files.enter_context(open(writer, "w", encoding="utf-8")))
            return fdspawn(reader, encoding="utf-8")

        yield make


def pulled() -> Iterator[PullStatus]:
    yield PullStatus(image="busybox", status="pulling", detail="Pulling")
    for layer in ("aaa", "bbb"):
        yield PullStatus(
            image="busybox", status="pulling", layer=layer, detail="Downloading", current_bytes=50, total_bytes=100
        )
    yield PullStatus(image="busybox", status="pulling", layer="aaa", detail="Pull complete")
    yield PullStatus(image="busybox", status="complete", detail="Done")


def test_a_bar_for_each_layer(terminal: Terminal) -> None:
    other_end = terminal()
    with Bars() as bars:
        for each in pulled():
            show_pull(bars, each)
        tasks = {task.description: task for task in bars._progress.tasks} if bars._progress else {}
    assert {name: (task.completed, task.total) for name, task in tasks.items()} == {"aaa": (1, 1), "bbb": (50, 100)}
    for text in ("aaa", "━", "Pull complete"):
        other_end.expect_exact(text)  # the kernel hands it over in a thread of its own


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars() as bars:
        for each in (*pulled(), *pulled()):
            show_pull(bars, each)
    assert capsys.readouterr().err.splitlines() == [
        "aaa: Downloading",
        "bbb: Downloading",
        "aaa: Pull complete",
        "Done",
        "aaa: Downloading",
        "aaa: Pull complete",
        "Done",
    ]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_bar_for_each_step_of_a_build(terminal: Terminal, size: int) -> None:
    terminal()
    with Bars() as bars:
        steps = BuildSteps(bars)
        for start in range(0, len(LOG), size):
            steps.take(LOG[start : start + size])
        tasks = list(bars._progress.tasks) if bars._progress else []
    assert [(task.description[:10], task.completed, task.total, task.fields["phase"]) for task in tasks] == [
        ("#1 [intern", 1, 1, "DONE 0.0s"),
        ("#2 [1/2] F", 1, 1, "CACHED"),
        ("#2 sha256:", 1_050_000, 2_100_000, "Downloading"),
        ("#3 [2/2] R", 1, 1, "ERROR: process did not complete"),
    ]
