"""The host port of a session's main service, which is told before there is a container."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from runtime_server.engine.base import Publish, RuntimeSpec
from runtime_server.models import StartRequest
from runtime_server.network.reservations import PortReservations
from runtime_server.runtimes import sessions
from runtime_server.store.records import Record

Bindings = dict[str, list[dict[str, str]]]
"""As a record keeps ports."""


def announced(record: Record, ports: Iterable[Publish], reservations: PortReservations) -> Bindings:
    """Where a session's main service will answer, for the time until its container is made; empty: not known.

    Args:
        record: the runtime.
        ports: those that are to be published.
        reservations: hold the port meanwhile.
    """
    inside = sessions.main_port(sessions.of_record(record), ())
    published = next((each for each in ports if each.container_port == inside and each.protocol == "tcp"), None)
    session = sessions.is_session(record.session_id, record.name)
    if not session or published is None or published.host_port is not None:
        return {}
    held = reservations.hold(record.runtime_id)
    if held is None:
        return {}
    return {f"{inside}/tcp": [{"HostIp": published.host_ip, "HostPort": str(held)}]}


def publishing(spec: RuntimeSpec, told: Mapping[str, list[dict[str, str]]]) -> RuntimeSpec:
    """With the host ports that were announced."""
    ports = tuple(
        dataclasses.replace(each, host_port=int(told[_key(each)][0]["HostPort"])) if told.get(_key(each)) else each
        for each in spec.ports
    )
    return dataclasses.replace(spec, ports=ports)


def picked(spec: RuntimeSpec, request: StartRequest) -> RuntimeSpec:
    """With host ports only where the start itself names them; the engine picks all others."""
    asked = {f"{each.container_port}/{each.protocol}": each.host_port for each in request.ports}
    ports = tuple(dataclasses.replace(each, host_port=asked.get(_key(each))) for each in spec.ports)
    return dataclasses.replace(spec, ports=ports)


def _key(port: Publish) -> str:
    return f"{port.container_port}/{port.protocol}"
