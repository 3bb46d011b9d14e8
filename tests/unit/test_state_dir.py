from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime_server import state as module
from runtime_server.paths import API_KEY_FILE
from runtime_server.settings import Settings
from runtime_server.state import State, locate, prepare


def settings(tmp_path: Path, **changes: Any) -> Settings:
    return Settings.model_validate({"state_dir": tmp_path / "deep" / "state", **changes})


def test_instance_and_key_stay(tmp_path: Path) -> None:
    first, second = locate(settings(tmp_path)), locate(settings(tmp_path))
    assert first == second
    assert first.key_file == first.directory / API_KEY_FILE
    assert first.key_file.read_text().strip()
    assert len(first.instance) == 16


@pytest.mark.parametrize("changes", [{"auth": "off"}, {"api_keys": "alice:k"}])
def test_no_key_is_made_where_none_is_needed(tmp_path: Path, changes: dict[str, str]) -> None:
    found = locate(settings(tmp_path, **changes))
    assert found.key_file is None
    assert not (found.directory / API_KEY_FILE).exists()


def test_a_crash_while_writing_leaves_no_half_a_file(tmp_path: Path) -> None:
    directory = locate(settings(tmp_path)).directory
    (directory / "instance").write_text("")
    (directory / "instance.new").write_text("hal")
    assert len(locate(settings(tmp_path)).instance) == 16
    assert not (directory / "instance.new").exists()


def test_a_lost_database_is_marked_and_the_first_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "migrate", lambda path: path.touch(mode=0o600))
    state: State = prepare(settings(tmp_path))
    assert not state.rebuilding.exists()
    assert prepare(settings(tmp_path)) == state
    assert not state.rebuilding.exists()
    state.database.unlink()
    assert prepare(settings(tmp_path)) == state
    assert state.rebuilding.exists()


def test_a_directory_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("a file")
    with pytest.raises(OSError, match="deep"):
        locate(settings(tmp_path))
