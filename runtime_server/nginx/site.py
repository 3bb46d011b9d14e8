"""All of nginx's configuration: one file of the API, and one of the gateway where there is one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from runtime_server.nginx.api import CONNECTIONS, api_config
from runtime_server.nginx.gateway import gateway_config, gateway_locations
from runtime_server.nginx.template import UnfitForNginx, quoted
from runtime_server.settings import Settings

API: Final = "runtime-server.conf"
GATEWAY: Final = "runtime-server.gateway.conf"
"""Sorted after the API's, which so is the one that answers under names that neither has."""

_AROUND: Final = """pid {folder}/nginx.pid;
error_log stderr warn;
events {{ }}
http {{
    access_log off;
    include {folder}/*.conf;
}}
"""
_PROGRAM_PATH: Final = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
_CHECKED_WITHIN: Final = 60.0
"""Seconds."""


def site(
    settings: Settings,
    *,
    listen: Sequence[str] = (),
    runtimes: Mapping[str, Iterable[str]] | None = None,
    connections: int = CONNECTIONS,
) -> dict[str, str]:
    """The files, by their names. Arguments as ``api_config`` has them.

    Raises:
        UnfitForNginx: a setting can't be written into them, or is missing.
    """
    by_path = gateway_locations(settings)
    locations = f"{by_path}\n\n" if by_path else ""
    files = {
        API: api_config(settings, listen=listen, runtimes=runtimes, connections=connections, locations=locations)
    }
    if settings.routed:
        files[GATEWAY] = gateway_config(settings, listen=listen, runtimes=runtimes)
    return files


def check(files: Mapping[str, str]) -> None:
    """Have ``nginx -t`` read them, beside nothing else.

    Args:
        files: as ``site`` makes them.

    Raises:
        UnfitForNginx: nginx refuses them; its own words are in the message.
        FileNotFoundError: there is no nginx.
    """
    program = shutil.which("nginx", path=_PROGRAM_PATH)
    if program is None:
        raise FileNotFoundError("nginx")
    with TemporaryDirectory(prefix="runtime-server-nginx-") as name:
        folder = Path(name)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        main = folder / "main"
        main.write_text(_AROUND.format(folder=quoted(folder)[1:-1]), encoding="utf-8")
        done = subprocess.run(  # noqa: S603 - fixed words, and paths of ours
            [program, "-t", "-q", "-c", str(main)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_CHECKED_WITHIN,
        )
    if done.returncode:
        raise UnfitForNginx(f"nginx refuses it: {done.stderr.strip()}")
