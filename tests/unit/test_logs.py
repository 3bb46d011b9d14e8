"""The logs: one record a line, everything through one place, and no credential in any of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from runtime_server import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in logs._QUIET}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, each in levels.items():
        logging.getLogger(name).setLevel(each)
    logging.captureWarnings(False)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def records(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_structlog_and_the_standard_library_share_one_format(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.contextvars.bind_contextvars(request_id="r-1")
    structlog.get_logger("ours").info("request", status=200, ms=1.5)
    logging.getLogger("gunicorn.error").warning("Worker %d ended", 7)
    ours, theirs = records(capsys)
    assert (ours["event"], ours["status"], ours["ms"], ours["level"]) == ("request", 200, 1.5, "info")
    assert (ours["logger"], ours["request_id"]) == ("ours", "r-1")
    assert ours["timestamp"].endswith("Z")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("Worker 7 ended", "warning", "gunicorn.error")


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_what_is_below_the_level_is_left_out(log_format: Any, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", log_format)
    structlog.get_logger().info("ours")
    logging.getLogger("docker").info("theirs")
    assert capsys.readouterr().err == ""


def test_configuring_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logs.configure("info", "json")
    structlog.get_logger().info("once")
    assert [each["event"] for each in records(capsys)] == ["once"]


@pytest.mark.parametrize("log_format", ["console", "json"])
@pytest.mark.parametrize(
    "fields",
    [
        {"api_key": "hush-hush"},
        {"headers": {"X-API-Key": "hush-hush", "Accept": "*/*"}},
        {"registry_auth": {"username": "u", "password": "hush-hush"}},
        {"header": "Authorization: Bearer hush-hush"},
        {"url": "https://user:hush-hush@registry.example/v2/"},
        {"answers": [{"token": "hush-hush"}, "X-API-Key: hush-hush"]},
    ],
)
def test_credentials_are_hidden(fields: dict[str, Any], log_format: Any, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", log_format)
    structlog.get_logger().info("request", **fields)
    said = capsys.readouterr().err
    assert "request" in said
    assert "hush-hush" not in said
    assert logs.HIDDEN in said


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_neither_variables_nor_credentials(
    log_format: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info", log_format)
    api_key = "hush-" + "hush"
    try:
        raise RuntimeError(f"refused: X-API-Key: {api_key}")
    except RuntimeError:
        structlog.get_logger().exception("failed")
    said = capsys.readouterr().err
    assert "RuntimeError: refused" in said
    assert "hush-hush" not in said


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_line_break_does_not_begin_another_record(log_format: Any, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", log_format)
    structlog.get_logger().info("path /a\nforged", name="b\nforged")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_libraries_that_log_rows_stay_quiet_at_debug(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "json")
    logging.getLogger("sqlalchemy.engine").info("row")
    logging.getLogger("urllib3.connectionpool").debug("call")
    structlog.get_logger().debug("ours")
    assert [each["event"] for each in records(capsys)] == ["ours"]
