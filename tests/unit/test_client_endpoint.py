"""Which server, and which key."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_server import RuntimeServerClient
from runtime_server.client.endpoint import find_endpoint
from runtime_server.paths import API_KEY_FILE


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with nothing but a generated key."""
    monkeypatch.delenv("RUNTIME_SERVER_URL", raising=False)
    monkeypatch.delenv("RUNTIME_SERVER_API_KEY", raising=False)
    monkeypatch.setenv("RUNTIME_SERVER_STATE_DIR", str(tmp_path))
    (tmp_path / API_KEY_FILE).write_text("generated\n")
    return tmp_path


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://127.0.0.1:8090", "generated"),
        ("http://127.8.9.10", "generated"),
        ("http://[::1]:8090", "generated"),
        ("https://localhost", "generated"),
        ("http://LOCALHOST", "generated"),
        ("http://10.0.0.1:8090", None),
        ("http://localhost.example", None),
        ("http://127.0.0.1.example", None),
        ("http://0.0.0.0", None),
        ("http://[::ffff:10.0.0.1]", None),
    ],
)
def test_the_generated_key_is_for_loopback_only(url: str, key: str | None) -> None:
    assert find_endpoint(url).key == key


def test_arguments_win_over_the_environment_over_the_file(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    assert find_endpoint().url == "http://127.0.0.1:8090"
    monkeypatch.setenv("RUNTIME_SERVER_URL", "https://runtimes.example/api/")
    monkeypatch.setenv("RUNTIME_SERVER_API_KEY", "from-environment")
    assert (find_endpoint().url, find_endpoint().key) == ("https://runtimes.example/api", "from-environment")
    assert find_endpoint("http://127.0.0.1", "given").key == "given"
    assert find_endpoint("http://127.0.0.1").key == "from-environment"
    assert find_endpoint("http://127.0.0.1", "").key is None
    monkeypatch.delenv("RUNTIME_SERVER_API_KEY")
    (state / API_KEY_FILE).unlink()
    assert find_endpoint("http://127.0.0.1").key is None


def test_the_environment_is_read_when_the_client_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_SERVER_URL", "http://first.example")
    with RuntimeServerClient() as client:
        monkeypatch.setenv("RUNTIME_SERVER_URL", "http://second.example")
        assert client.base_url == "http://first.example"


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8090",
        "ftp://host",
        "http://",
        "http://user:secret-key@host",
        "http://host?key=secret-key",
        "http://host#x",
        "http://host:port",
        "http://a b",
    ],
)
def test_urls_that_can_not_be_used(url: str) -> None:
    with pytest.raises(ValueError, match="base_url") as caught:
        RuntimeServerClient(url)
    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize("key", ["line\nbreak", "käse", "nul\0"])
def test_keys_that_can_not_be_sent_are_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        RuntimeServerClient("http://host", api_key=key)
    assert key not in str(caught.value)
    assert "secret" not in repr(find_endpoint("http://host", "secret"))
