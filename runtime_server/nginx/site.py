"""All of nginx's configuration: one file of the API, and one of the gateway where there is one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from runtime_server.nginx.api import CONNECTIONS, api_config
from runtime_server.nginx.gateway import gateway_config, gateway_locations
from runtime_server.settings import Settings

API: Final = "runtime-server.conf"
GATEWAY: Final = "runtime-server-gateway.conf"


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
    locations = gateway_locations(settings)
    files = {
        API: api_config(settings, listen=listen, runtimes=runtimes, connections=connections, locations=locations)
    }
    if settings.routed:
        files[GATEWAY] = gateway_config(settings, listen=listen, runtimes=runtimes)
    return files
