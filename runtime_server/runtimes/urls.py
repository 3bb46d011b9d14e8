"""Where a runtime's services answer. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from runtime_server.models import HostPort
from runtime_server.runtimes import sessions
from runtime_server.settings import Settings
from runtime_server.store.records import Record


class Urls:
    """Addresses of published ports.

    Args:
        settings: say how runtimes are reached.
    """

    def __init__(self, settings: Settings) -> None:
        self._host = settings.advertise_host

    def main(self, record: Record) -> str | None:
        """The main service's origin, without a slash at the end; None where it isn't published, or not yet.

        A session's stays what its start was told, when it has ended too: its clients read no state of a runtime that
        has no address.
        """
        port = sessions.main_port(sessions.of_record(record), record.ports)
        if port is None:
            return None
        key = f"{port}/tcp"
        return self._origin(record.ports.get(key) or record.announced.get(key))

    def others(self, record: Record) -> dict[str, int]:
        """Origins of the other services that are published, each with its port inside.

        Of a session the two for work alone, which is what its clients take them for.
        """
        main = sessions.main_port(sessions.of_record(record), record.ports)
        if sessions.is_session(record.session_id, record.name):
            inside: Sequence[int] = sessions.WORK_PORTS
        else:
            inside = [int(port.partition("/")[0]) for port in record.ports if port.endswith("/tcp")]
        found = {port: self._origin(record.ports.get(f"{port}/tcp")) for port in inside if port != main}
        return {url: port for port, url in found.items() if url is not None}

    def _origin(self, hosts: Sequence[Mapping[str, str]] | None) -> str | None:
        if not hosts:
            return None
        published = HostPort.model_validate(hosts[0])
        host = self._host or published.host
        return f"http://{f'[{host}]' if ':' in host else host}:{published.HostPort}"


def unserved(settings: Settings) -> str | None:
    """Why the advertised address can't lead to what is published, for a warning; None where it can."""
    if not settings.advertise_host:
        return None
    bound = ipaddress.ip_address(settings.publish_host)
    if bound.is_unspecified:
        return None
    try:
        advertised = ipaddress.ip_address(settings.advertise_host)
    except ValueError:
        # A name may lead anywhere, unless only this machine itself can get there.
        local = settings.advertise_host in ("localhost", "localhost.localdomain")
        fine = local if bound.is_loopback else not local
    else:
        fine = advertised == bound
    if fine:
        return None
    return (
        f"RUNTIME_SERVER_ADVERTISE_HOST is {settings.advertise_host}, where ports that are published on "
        f"RUNTIME_SERVER_PUBLISH_HOST={settings.publish_host} don't answer."
    )
