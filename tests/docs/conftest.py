"""A real engine with busybox on it, and what the documents' examples need beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from tests.docs.places import Place
from tests.engine.conftest import docker_client, test_images
from tests.faults.registry import PASSWORD, USER, Registry
from tests.faults.server import free_port
from tests.nginx.conftest import MAIN, nginx

__all__ = ["docker_client", "nginx", "test_images"]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def busybox(docker_client: APIClient, test_images: None) -> None:
    """The image is there as a reader has it, with all that belongs to busybox; and so is curl."""
    subprocess.run(
        ["bash", "-euc", ". scripts/lib.sh; ensure_busybox; have curl || apt_install curl"], cwd=ROOT, check=True
    )


@pytest.fixture(scope="session")
def registry(
    tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None
) -> Iterator[Place]:
    """A registry that asks for credentials, with images: what the documents call them, and what they are here."""
    made = Registry(tmp_path_factory.mktemp("registry") / "data", docker_client, login=True)
    try:
        for name in ("team/agent", "team/tool", "team/other"):
            made.push(name)
        yield Place({"registry.example.com": made.host, "puller-name": USER, "puller-password": PASSWORD})
    finally:
        made.close()


DOMAIN = "runtimes.example.com"

PROGRAMS = {
    "nginx": 'exec {nginx} -c {folder}/nginx.conf "$@"',
    "curl": 'exec {curl} --cacert {folder}/tls/fullchain.pem --connect-to ::127.0.0.1:{port} "$@"',
    "runtime-server": """[ "${{1:-}}" != nginx-config ] || set -- "$@" --listen 127.0.0.1:{port}
exec {python} -m runtime_server "$@"
""",
    # Without root there is no group to give the folder to, which is there.
    "sudo": """[ "$1" != -E ] || shift
[ "$1" != install ] || [ "$(id -u)" = 0 ] || exit 0
exec "$@"
""",
}
"""What stands before this machine's programs: they name this nginx, its port and its certificate."""


@contextlib.contextmanager
def proxied(folder: Path, program: str, port: int) -> Iterator[Place]:
    """An nginx that is this test's own, with a certificate, where the documents have the system's."""
    for name in ("etc/conf.d", "tls", "run"):
        (folder / name).mkdir(parents=True)
    key, certificate = folder / "tls/privkey.pem", folder / "tls/fullchain.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN},DNS:*.{DOMAIN}", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    # Root's nginx would hand its work to nobody, who can't enter the tests' folders.
    user = "user root;" if os.geteuid() == 0 else ""
    main = MAIN.replace("daemon off;", "daemon on;").format(folder=folder, user=user)
    (folder / "nginx.conf").write_text(main)
    (folder / "site.conf").write_text(f"include {folder}/etc/conf.d/*.conf;\n")
    (folder / "bin").mkdir()
    named = {"nginx": program, "curl": shutil.which("curl"), "python": sys.executable}
    for name, text in PROGRAMS.items():
        path = folder / "bin" / name
        path.write_text("#!/bin/sh\n" + text.format(folder=folder, port=port, **named))
        path.chmod(0o755)
    before = f"export PATH={folder}/bin:$PATH RUNTIME_SERVER_GATEWAY_DIR={folder}/run\nnginx > /dev/null 2>&1\n"
    here = {
        "/etc/nginx": f"{folder}/etc",
        "/run/runtime-server": f"{folder}/run",
        f"/etc/letsencrypt/live/{DOMAIN}": f"{folder}/tls",
    }
    try:
        yield Place(here, before, by_port=False)
    finally:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((folder / "nginx.pid").read_text()), signal.SIGTERM)


@pytest.fixture(scope="session")
def api_behind_nginx(tmp_path_factory: pytest.TempPathFactory, nginx: str, busybox: None) -> Iterator[Place]:
    with proxied(tmp_path_factory.mktemp("proxied"), nginx, free_port()) as place:
        yield place


@pytest.fixture(scope="session")
def gateway_behind_nginx(tmp_path_factory: pytest.TempPathFactory, nginx: str, busybox: None) -> Iterator[Place]:
    with proxied(tmp_path_factory.mktemp("proxied"), nginx, free_port()) as place:
        yield place
