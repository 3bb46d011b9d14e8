"""Where the engine is looked for, without one."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime_server.engine import discovery
from runtime_server.errors import EngineUnreachable


@pytest.fixture(autouse=True)
def no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a CLI configuration nor Docker's socket: what the machine has is no part of these tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(discovery, "DEFAULT_SOCKET", str(tmp_path / "docker.sock"))
    monkeypatch.setattr(discovery, "ROOT_PODMAN_SOCKET", str(tmp_path / "root-podman.sock"))


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for each in sockets:
        each.close()


def listen(sockets: list[socket.socket], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sockets.append(socket.socket(socket.AF_UNIX))
    sockets[-1].bind(str(path))


def test_the_setting_wins_over_the_environment() -> None:
    found = discovery.discover("unix:///run/own.sock", {"DOCKER_HOST": "tcp://elsewhere:2375"})

    assert (found.address, found.socket, found.tls) == ("unix:///run/own.sock", "/run/own.sock", None)


def test_a_plain_path_is_a_socket() -> None:
    assert discovery.discover("/run/own.sock", {}).address == "unix:///run/own.sock"


def test_docker_host_without_tls() -> None:
    found = discovery.discover("", {"DOCKER_HOST": "tcp://elsewhere:2375"})

    assert (found.address, found.socket, found.tls) == ("tcp://elsewhere:2375", None, None)
    assert discovery.socket_path("", {"DOCKER_HOST": "tcp://elsewhere:2375"}) is None


def test_docker_host_with_tls(tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).touch()
    environment = {
        "DOCKER_HOST": "tcp://elsewhere:2376",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(tmp_path),
    }

    tls = discovery.discover("", environment).tls

    assert tls is not None
    assert tls.verify
    assert tls.ca_cert == str(tmp_path / "ca.pem")


def test_missing_tls_files_are_an_engine_that_cannot_be_reached(tmp_path: Path) -> None:
    environment = {"DOCKER_HOST": "tcp://elsewhere:2376", "DOCKER_CERT_PATH": str(tmp_path / "none")}

    with pytest.raises(EngineUnreachable) as caught:
        discovery.discover("", environment)
    assert str(tmp_path) not in caught.value.detail
    assert discovery.socket_path("", environment) is None


def write_context(home: Path, name: str, host: str) -> None:
    meta = home / ".docker/contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    content = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}}}
    (meta / "meta.json").write_text(json.dumps(content))


def test_the_current_context_of_the_cli(tmp_path: Path) -> None:
    write_context(tmp_path, "lab", "unix:///run/lab.sock")
    (tmp_path / ".docker/config.json").write_text(json.dumps({"currentContext": "lab"}))

    assert discovery.discover("", {}).address == "unix:///run/lab.sock"
    assert discovery.discover("", {"DOCKER_HOST": "unix:///run/host.sock"}).address == "unix:///run/host.sock"


def test_a_context_by_name(tmp_path: Path) -> None:
    write_context(tmp_path, "lab", "unix:///run/lab.sock")
    (tmp_path / ".docker/config.json").write_text("{}")

    assert discovery.discover("", {"DOCKER_CONTEXT": "lab"}).address == "unix:///run/lab.sock"


def test_the_usual_sockets_in_their_order(tmp_path: Path, listening: list[socket.socket]) -> None:
    runtime_dir = tmp_path / "user"
    environment = {"XDG_RUNTIME_DIR": str(runtime_dir)}
    assert discovery.socket_path("", environment) == str(tmp_path / "docker.sock")

    for path in (
        tmp_path / "root-podman.sock",
        runtime_dir / "podman/podman.sock",
        runtime_dir / "docker.sock",
        tmp_path / "docker.sock",
    ):
        listen(listening, path)
        assert discovery.socket_path("", environment) == str(path)
