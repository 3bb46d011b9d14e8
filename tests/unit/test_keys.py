"""The key file: what it holds, who believes it, and how soon a change is seen."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runtime_server.cli.main import main
from runtime_server.errors import PolicyRefused
from runtime_server.keys import KeyFile, KeyFileBroken
from runtime_server.models import StartRequest
from runtime_server.paths import NotPrivate
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.policy import Policy
from runtime_server.settings import Settings
from runtime_server.state import check, prepare
from runtime_server.web.auth import KeyRing


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    before = dict(os.environ)
    for name in [each for each in os.environ if each.startswith("RUNTIME_SERVER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RUNTIME_SERVER_STATE_DIR", str(tmp_path / "state"))
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("keys", *arguments))


def ring() -> KeyRing:
    settings = Settings()
    return KeyRing.from_settings(settings, settings.state_dir / "api-key")


def test_a_key_is_shown_once_and_stored_as_its_hash(tmp_path: Path) -> None:
    added = keys("add", "ci", "--admin")
    key = added.stdout.strip()
    assert added.exit_code == 0
    assert len(key) == len("rsk_") + 43
    path = tmp_path / "state" / "keys.json"
    assert [each.stat().st_mode & 0o777 for each in (path.parent, path)] == [0o700, 0o600]
    assert key not in path.read_text()
    assert key.removeprefix("rsk_") not in keys("list").output
    assert KeyFile(path).read()[0].sha256 not in repr(KeyFile(path).read())
    assert ring().caller_of(key) == Caller("ci", admin=True)


def test_workers_see_a_change_at_their_next_request() -> None:
    rings = [ring(), ring()]
    first, second, other = (keys("add", name).stdout.strip() for name in ("a", "a", "b"))
    assert [each.find(first) for each in rings] == [Caller("a")] * 2
    one = KeyFile(Settings().keys_path).read()[0].id
    assert keys("revoke", one).exit_code == 0
    assert [each.find(first) for each in rings] == [None] * 2
    assert [each.find(second) for each in rings] == [Caller("a")] * 2
    assert keys("revoke", "a").exit_code == 0
    assert [each.find(second) for each in rings] == [None] * 2
    assert [each.find(other) for each in rings] == [Caller("b")] * 2
    assert keys("revoke", "a").exit_code == 1


def test_two_changes_in_a_tick_of_the_clock_are_both_seen() -> None:
    seen, file = ring(), KeyFile(Settings().keys_path)
    Settings().state_dir.mkdir(mode=0o700)
    for number in range(50):
        made, key = file.add(f"n{number}")
        assert seen.find(key) == Caller(made.name)
        file.revoke(made.id)
        assert seen.find(key) is None


def test_nobody_is_refused_while_the_file_changes() -> None:
    key, seen = keys("add", "a").stdout.strip(), ring()
    file, over, refused = KeyFile(Settings().keys_path), threading.Event(), []

    def ask() -> None:
        while not over.is_set():
            if seen.find(key) != Caller("a"):
                refused.append(key)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    for number in range(20):
        file.revoke(file.add(f"n{number}")[0].id)
    over.set()
    for each in threads:
        each.join()
    assert not refused


def test_changes_at_once_are_all_kept() -> None:
    Settings().state_dir.mkdir(mode=0o700)
    file = KeyFile(Settings().keys_path)
    threads = [threading.Thread(target=file.add, args=(f"n{number}",)) for number in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {each.name for each in file.read()} == {f"n{number}" for number in range(16)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"version": 2, "keys": []}',
        b'{"version": 1, "keys": [{"name": "a"}]}',
        b"[" * 9999,
    ],
)
def test_a_broken_file_opens_nothing_and_stops_a_start(content: bytes, served: list[Any]) -> None:
    key, seen = keys("add", "a").stdout.strip(), ring()
    assert seen.find(key)
    path = Settings().keys_path
    path.write_bytes(content)
    assert seen.find(key) is None
    assert seen.find(key) is None
    with pytest.raises(KeyFileBroken):
        KeyFile(path).read()
    refused = CliRunner().invoke(main)
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    assert "RUNTIME_SERVER_KEYS_FILE: " in refused.output
    assert keys("add", "b").exit_code == 1
    assert path.read_bytes() == content


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Ports that a start got as far as looking at."""
    asked: list[Any] = []
    monkeypatch.setattr("runtime_server.cli.serve.check_port", lambda *where: asked.append(where))
    return asked


def test_a_file_that_others_can_read_opens_nothing() -> None:
    key, seen = keys("add", "a").stdout.strip(), ring()
    path = Settings().keys_path
    assert seen.find(key)
    path.chmod(0o640)
    assert seen.find(key) is None
    path.chmod(0o600)
    assert seen.find(key) == Caller("a")


def test_a_key_is_generated_only_where_there_is_no_other(tmp_path: Path) -> None:
    prepare(Settings())
    generated = tmp_path / "state" / "api-key"
    key = generated.read_text().strip()
    assert ring().caller_of(key) == Caller("default")
    assert "generated" in keys("list").output
    keys("add", "a")
    assert keys("revoke", "generated").exit_code == 0
    assert ring().find(key) is None
    prepare(Settings())
    assert not generated.exists()


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a+admin", "-", "x" * 65, "ä"])
def test_a_name_that_cant_be_an_owners(name: str) -> None:
    refused = keys("add", "--", name)
    assert refused.exit_code == 1
    assert "A name is 1 to 64" in refused.output
    assert not Settings().keys_path.exists()


def test_a_state_that_others_can_reach_stops_a_start() -> None:
    settings = Settings()
    state = prepare(settings)
    (state.locks / "x").touch(mode=0o600)
    (state.directory / "some").mkdir(mode=0o700)
    (state.directory / "some" / "where").touch(mode=0o600)
    for name in ("", "state.db", "api-key", "instance", "locks", "holders", "locks/x", "some/where"):
        path = state.directory / name
        mode = path.stat().st_mode & 0o777
        assert mode & 0o077 == 0
        check(settings)
        path.chmod(mode | 0o040)
        with pytest.raises(NotPrivate, match=f"{path} is open to other users .*chmod"):
            prepare(settings)
        told = CliRunner().invoke(main, ["--check-config"])
        assert (told.exit_code, f"chmod {mode:o} {path}" in told.output) == (1, True)
        path.chmod(mode)


def test_the_key_file_is_never_mounted(tmp_path: Path) -> None:
    root = tmp_path / "volumes"
    (root / "etc").mkdir(parents=True)
    settings = Settings(keys_file=root / "etc" / "keys.json", volume_roots=(str(root),))
    KeyFile(settings.keys_path).add("a")
    policy = Policy(settings)
    for path in (root, root / "etc", root / "etc" / "keys.json"):
        volume = {"host_path": str(path), "container_path": "/x"}
        request = StartRequest.model_validate({"image": "busybox", "volumes": [volume]})
        with pytest.raises(PolicyRefused):
            policy.spec(request, "runtime-0123456789ab", {}, {})


def test_another_users_instance_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server would refuse to start with files of root's in its folder."""
    (tmp_path / "state").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    for command in (("keys", "add", "ci"), ("keys", "list"), ("drain",), ("purge", "--yes")):
        refused = CliRunner().invoke(main, command)
        assert refused.exit_code == 1
        assert "run this as that user" in refused.output
    assert list((tmp_path / "state").iterdir()) == []
