"""nginx's configuration as text; what nginx thinks of it is tried in tests/nginx."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from runtime_server.cli.main import main
from runtime_server.cli.serve import check_socket
from runtime_server.nginx.api import api_config
from runtime_server.nginx.site import API, GATEWAY, site
from runtime_server.nginx.template import UnfitForNginx, quoted
from runtime_server.settings import Settings

EXAMPLES = Path(__file__).parents[2] / "deploy/nginx"
NAME = "runtimes.example.com"
FOLDER = f"/etc/letsencrypt/live/{NAME}"
SHIPPED = {"domain": NAME, "tls_certificate": f"{FOLDER}/fullchain.pem", "tls_key": f"{FOLDER}/privkey.pem"}


def settings(**values: object) -> Settings:
    return Settings.model_validate({"bind": "unix:/run/runtime-server/api.sock", **values})


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [each for each in os.environ if each.startswith("RUNTIME_SERVER_")]:
        monkeypatch.delenv(name)
    yield
    os.environ.pop("RUNTIME_SERVER_STATE_DIR", None)


def test_the_shipped_examples_are_what_is_rendered() -> None:
    rendered = site(settings(**SHIPPED, routing="subdomain"))
    assert {path.name: path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.conf")} == rendered
    # The API's is the same where there is no gateway.
    assert site(settings(**SHIPPED)) == {API: rendered[API]}


def test_by_path_the_runtimes_are_locations_of_the_apis_server() -> None:
    files = site(settings(**SHIPPED, routing="path"))
    assert 'location ~ "^/runtime-[0-9a-f]{12}(/|$)" {' in files[API]
    assert "server {" not in files[GATEWAY]
    assert "upstream runtime_server_gateway {" in files[GATEWAY]
    assert 'server_name "*.runtimes.example.com";' in site(settings(**SHIPPED, routing="subdomain"))[GATEWAY]


@pytest.mark.parametrize(
    ("values", "server"),
    [
        ({}, "unix:/run/runtime-server/api.sock"),
        ({"bind": "", "host": "0.0.0.0", "port": 8090}, "127.0.0.1:8090"),
        ({"bind": "", "host": "::", "port": 8090}, "[::1]:8090"),
        ({"bind": "", "host": "10.1.2.3", "port": 81}, "10.1.2.3:81"),
    ],
)
def test_it_leads_to_where_the_service_listens(values: dict[str, object], server: str) -> None:
    assert f'server "{server}" fail_timeout=0;' in api_config(settings(**values))


def test_limits_and_times_are_those_of_the_settings() -> None:
    text = api_config(settings(max_body_bytes=4096, max_wait=3600, engine_timeout=20), connections=7)
    assert "client_max_body_size 4096;" in text
    assert "proxy_read_timeout 3650s;" in text
    assert "limit_conn runtime_server_api 7;" in text
    # A stop may take its grace, however short other waits are.
    assert "proxy_read_timeout 690s;" in api_config(settings(max_wait=1))


def test_without_a_certificate_it_stays_on_loopback() -> None:
    plain = [line.strip() for line in api_config(settings()).splitlines() if line.strip().startswith("listen ")]
    assert plain == ["listen 127.0.0.1:80 default_server;", "listen [::1]:80 default_server;"]
    secure = api_config(settings(domain=NAME, tls_certificate="/c", tls_key="/k"))
    assert [line.strip() for line in secure.splitlines() if line.strip().startswith("listen ")] == [
        "listen 443 ssl http2;",
        "listen [::]:443 ssl http2;",
    ]


@pytest.mark.parametrize(
    ("values", "listen"),
    [
        ({"tls_certificate": "/c"}, ()),
        ({"tls_key": "/k"}, ()),
        ({"tls_certificate": "/$c", "tls_key": "/k"}, ()),
        ({"tls_certificate": "/c\n;", "tls_key": "/k"}, ()),
        ({"bind": "unix:/run/$host.sock"}, ()),
        ({}, ("80; include /etc/passwd",)),
        ({}, ("80 default_server",)),
        ({}, ("",)),
    ],
)
def test_nothing_gets_into_it_that_isnt_a_value(values: dict[str, object], listen: tuple[str, ...]) -> None:
    with pytest.raises(UnfitForNginx):
        api_config(settings(**values), listen=listen)


def test_values_are_one_parameter_each() -> None:
    assert quoted('a b;"c"\\') == '"a b;\\"c\\"\\\\"'


def test_the_command_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner().invoke
    done = run(main, ["nginx-config", "--state-dir", str(tmp_path / "none")])
    assert (done.exit_code, "can't tell where requests come from" in done.stderr) == (0, True)
    assert done.stdout == api_config(Settings())
    assert not (tmp_path / "none").exists()
    monkeypatch.setenv("RUNTIME_SERVER_BIND", "unix:/run/runtime-server/api.sock")
    assert run(main, ["nginx-config", "--state-dir", str(tmp_path)]).stderr == ""
    wrong = run(main, ["nginx-config", "--state-dir", str(tmp_path), "--listen", "every:where"])
    assert (wrong.exit_code, "no address and port" in wrong.stderr) == (1, True)


def test_the_command_writes_both_files_where_nginx_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = CliRunner().invoke
    values = {"BIND": "unix:/run/runtime-server/api.sock", "DOMAIN": NAME, "ROUTING": "subdomain"}
    for name, value in values.items():
        monkeypatch.setenv(f"RUNTIME_SERVER_{name}", value)
    command = ["nginx-config", "--state-dir", str(tmp_path / "none"), "--check", "--output", str(tmp_path)]
    checked: list[dict[str, str]] = []
    monkeypatch.setattr("runtime_server.nginx.site.check", checked.append)
    assert run(main, command).exit_code == 0
    assert checked == [{each.name: each.read_text() for each in tmp_path.glob("*.conf")}]
    assert set(checked[0]) == {API, GATEWAY}

    (tmp_path / API).write_text("as it was")
    for refusal in (UnfitForNginx("nginx refuses it: no such thing"), FileNotFoundError()):

        def refuse(_: object, refusal: Exception = refusal) -> None:
            raise refusal

        monkeypatch.setattr("runtime_server.nginx.site.check", refuse)
        refused = run(main, command)
        assert (refused.exit_code, "nginx" in refused.stderr) == (1, True)
        assert (tmp_path / API).read_text() == "as it was"

    # A gateway of earlier settings goes.
    monkeypatch.setenv("RUNTIME_SERVER_ROUTING", "published")
    assert run(main, [each for each in command if each != "--check"]).exit_code == 0
    assert [each.name for each in tmp_path.glob("*.conf")] == [API]


def test_a_socket_that_cant_be_made_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    check_socket(path)
    for wrong, said in [(tmp_path / "none/api.sock", "isn't a folder"), (tmp_path / ("x" * 120), "107 bytes")]:
        with pytest.raises(click.ClickException, match=said):
            check_socket(wrong)
    path.write_text("")
    with pytest.raises(click.ClickException, match="no socket"):
        check_socket(path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as another:
        another.bind(str(path))
        another.listen()
        with pytest.raises(click.ClickException, match="listens on"):
            check_socket(path)
    check_socket(path)  # left behind
