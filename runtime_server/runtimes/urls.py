"""Where a runtime's services answer. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from runtime_server.models import HostPort, RuntimeStatus
from runtime_server.runtimes import sessions
from runtime_server.settings import Settings
from runtime_server.store.records import Record

_ENDED = (RuntimeStatus.STOPPED, RuntimeStatus.ERROR, RuntimeStatus.REMOVED)


class Urls:
    """Addresses of services: of published ports, or under the gateway's name.

    Args:
        settings: say how runtimes are reached.
    """

    def __init__(self, settings: Settings) -> None:
        self._host = settings.advertise_host
        self._routing = settings.routing
        self._domain = settings.gateway_host
        self._scheme = "https" if settings.gateway_secure else "http"

    def main(self, record: Record) -> str | None:
        """The main service's address, without a slash at the end; None where it has none, or not yet.

        A session's stays what its start was told, when it has ended too: its clients read no state of a runtime that
        has no address.
        """
        port = sessions.main_port(sessions.of_record(record), record.ports)
        if port is None:
            return None
        if self._routing != "published":
            ended = record.status in _ENDED and not sessions.is_session(record.session_id, record.name)
            return None if ended else self._routed(record, sessions.MAIN)
        key = f"{port}/tcp"
        return self._origin(record.ports.get(key) or record.announced.get(key))

    def others(self, record: Record) -> dict[str, int]:
        """Addresses of the other services, each with its port inside.

        Of a session the two for work alone, which is what its clients take them for.
        """
        main = sessions.main_port(sessions.of_record(record), record.ports)
        if sessions.is_session(record.session_id, record.name):
            inside: Sequence[int] = sessions.WORK_PORTS
        else:
            inside = [int(port.partition("/")[0]) for port in record.ports if port.endswith("/tcp")]
        found = {port: self._address(record, port) for port in inside if port != main}
        return {url: port for port, url in found.items() if url is not None}

    def services(self, record: Record) -> dict[str, str]:
        """Addresses of all services but the main one, by the gateway's names for them."""
        found = {sessions.service_of(port): url for url, port in self.others(record).items()}
        if sessions.is_session(record.session_id, record.name):
            vscode = self._address(record, sessions.VSCODE_PORT)
            found |= {sessions.VSCODE: vscode} if vscode else {}
        return found

    def environment(self, record: Record) -> dict[str, str]:
        """What a session's services must know of how they are reached, as OpenHands names it."""
        if self._routing != "path" or not sessions.is_session(record.session_id, record.name):
            return {}
        return {"OH_VSCODE_BASE_PATH": path_prefix(record.runtime_id, sessions.VSCODE)}

    def _address(self, record: Record, port: int) -> str | None:
        if self._routing == "published":
            return self._origin(record.ports.get(f"{port}/tcp"))
        return None if record.status in _ENDED else self._routed(record, sessions.service_of(port))

    def _origin(self, hosts: Sequence[Mapping[str, str]] | None) -> str | None:
        if not hosts:
            return None
        published = HostPort.model_validate(hosts[0])
        host = self._host or published.host
        return f"http://{f'[{host}]' if ':' in host else host}:{published.HostPort}"

    def _routed(self, record: Record, service: str) -> str:
        """The address through the gateway."""
        if self._routing == "path":
            return f"{self._scheme}://{self._domain}{path_prefix(record.runtime_id, service)}"
        return f"{self._scheme}://{f'{service}-' if service else ''}{record.runtime_id}.{self._domain}"


def path_prefix(runtime_id: str, service: str) -> str:
    """What the paths of a service begin with where runtimes are reached by path."""
    return f"/{runtime_id}/{service}" if service else f"/{runtime_id}"


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
