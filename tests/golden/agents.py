"""Images with stand-ins for what OpenHands' images run, for a real engine."""

from __future__ import annotations

import io
import tarfile

from docker import APIClient

from tests.engine import images

AGENT = "runtime-server-test/agent:latest"
"""Serves on the port that its command line names first, whichever client's that is, what it was started with."""
SLEEPER = "runtime-server-test/sleeping-agent:latest"
"""The same, once there is a file ``/tmp/awake``."""
BROKEN = "runtime-server-test/broken-agent:latest"
"""Ends with 3 after its last words."""
BARE = images.BUSYBOX
"""Has no agent."""
MISSING = "runtime-server-test/missing:latest"
"""Is nowhere."""
LAST_WORDS = "no agent today"

_PROGRAMS = ("usr/local/bin/openhands-agent-server", "openhands/micromamba/bin/micromamba")
_SERVE = """\
for word; do
    case $word in [0-9]*) port=$word; break ;; esac
done
mkdir -p /tmp/www
cd /tmp/www
env >environment
id >id
echo "$OLDPWD" >folder
echo "$0 $*" >command
echo ok >alive
echo ok >health
exec httpd -f -p "$port" -h /tmp/www
"""
_SCRIPTS = {
    AGENT: _SERVE,
    SLEEPER: "while [ ! -e /tmp/awake ]; do sleep 0.1; done\n" + _SERVE,
    BROKEN: f"echo {LAST_WORDS}\nexit 3\n",
}


def make(client: APIClient) -> None:
    """Import the images that the engine doesn't have, or has of another script."""
    for image, script in _SCRIPTS.items():
        repository, _, tag = image.partition(":")
        # An entrypoint that must be gone where a client sends its whole command line.
        changes = ['ENTRYPOINT ["/bin/false"]', "EXPOSE 8000"]
        client.import_image_from_data(_root(script), repository=repository, tag=tag, changes=changes)


def _root(script: str) -> bytes:
    out = io.BytesIO(images.root_file_system())
    with tarfile.open(fileobj=out, mode="a") as tar:
        folder = tarfile.TarInfo("workspace")
        folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, 0o755, 10001, 10001
        tar.addfile(folder)
        for name in _PROGRAMS:
            content = f"#!/bin/sh\n{script}".encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()
