"""With the default capabilities, and no new privileges, ordinary images do what they are for: apt and sshd are tried.

The OpenHands agent server is the third, in ``tests/openhands``. The image is ``scripts/test-images debian``'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from docker import APIClient

from tests.engine.served import Served, eventually, serve

IMAGE = "runtime-server-test/debian:trixie"

REPOSITORY = """
mkdir -p /repository/own/DEBIAN /repository/own/usr/bin
cd /repository
cat >own/DEBIAN/control <<END
Package: own
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: a package of the test's own
END
cat >own/DEBIAN/postinst <<END
#!/bin/sh
set -e
useradd --system own
install -d -o own -g own -m 2750 /var/lib/own
install -o root -g own -m 2755 /bin/true /usr/bin/own-setgid
END
chmod 0755 own/DEBIAN/postinst
printf '#!/bin/sh\\necho installed\\n' >own/usr/bin/own
chmod 0755 own/usr/bin/own
dpkg-deb --root-owner-group --build own own.deb
size=$(stat -c %s own.deb)
{
    cat own/DEBIAN/control
    echo "Filename: ./own.deb"
    echo "Size: $size"
    echo "SHA256: $(sha256sum own.deb | cut -d ' ' -f 1)"
} >Packages
echo 'deb [trusted=yes] file:/repository ./' >/etc/apt/sources.list
rm -f /etc/apt/sources.list.d/*
"""
"""A repository of one package on the container's own disk: no test reaches the network."""

APT = f"""
set -eu
{REPOSITORY}
apt-get update
# Fetching is done as the user _apt, into a folder that only it and root may read.
apt-get install -y own
own
stat -c '%U %G %a' /var/lib/own /usr/bin/own-setgid
apt-get remove -y own
test ! -e /usr/bin/own
echo all done
"""

SSHD = """
set -eu
ssh-keygen -A
install -d -m 0700 -o openhands -g openhands /home/openhands/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/key
install -m 0600 -o openhands -g openhands /root/key.pub /home/openhands/.ssh/authorized_keys
mkdir -p /run/sshd
/usr/sbin/sshd -E /tmp/sshd.log
ssh="ssh -i /root/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes"
$ssh openhands@127.0.0.1 'id -un; pwd' || { cat /tmp/sshd.log; exit 1; }
# With a terminal, as people log in.
$ssh -tt openhands@127.0.0.1 'tty' </dev/null
echo fetched >/home/openhands/file
scp -q -i /root/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null openhands@127.0.0.1:file /root/got
cat /root/got
if ssh -o StrictHostKeyChecking=no -o BatchMode=yes openhands@127.0.0.1 true; then exit 1; fi
echo all done
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient) -> Iterator[Served]:
    if not docker_client.images(IMAGE):
        pytest.fail(f"the engine has no {IMAGE}: run scripts/test-images debian")
    with serve(tmp_path_factory.mktemp("images"), docker_client) as found:
        yield found


def output(served: Served, script: str) -> tuple[list[str], dict[str, Any]]:
    """What a script writes, and its container, once it has ended."""
    started = served.start(image=IMAGE, command=["/bin/sh", "-c", script])
    found = eventually(
        lambda: state if (state := served.inspect(started.runtime_id))["State"]["Status"] == "exited" else None,
        "the script ends",
    )
    text = served.output(started.runtime_id)
    assert found["State"]["ExitCode"] == 0, text
    return text.replace("\r", "").splitlines(), found


def test_apt_installs_and_removes(served: Served) -> None:
    lines, container = output(served, APT)
    assert container["HostConfig"]["CapDrop"] == ["ALL"]
    assert container["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    assert "installed" in lines
    assert lines[lines.index("installed") + 1 :][:2] == ["own own 2750", "root own 2755"]
    assert "all done" in lines


def test_sshd_lets_a_key_in(served: Served) -> None:
    lines, _ = output(served, SSHD)
    told = [line for line in lines if not line.startswith(("Warning", "ssh-keygen", "Connection"))]
    assert told[told.index("openhands") :][:2] == ["openhands", "/home/openhands"]
    assert any(line.startswith("/dev/pts/") for line in told)
    assert "fetched" in told
    assert "all done" in told  # wherever: what goes to stderr comes by another pipe
