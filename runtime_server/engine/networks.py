"""An instance's own network in the Engine API's JSON. Pure, but for the calls that a client is given for."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import docker.errors
from docker import APIClient

from runtime_server.engine import labels
from runtime_server.engine.base import Network
from runtime_server.engine.docker_client import check, url
from runtime_server.errors import EngineFailed

BRIDGE_OPTION = "com.docker.network.bridge.name"
_ICC_OPTION = "com.docker.network.bridge.enable_icc"
_DEFAULT_OPTION = "com.docker.network.bridge.default_bridge"


def instance_digest(instance: str) -> str:
    """Hex digits that stand for an instance in names with little room."""
    return hashlib.sha256(instance.encode()).hexdigest()


def bridge_name(instance: str) -> str:
    """The instance's bridge on the host: 15 characters, the most that an interface's name can have."""
    return f"rs-{instance_digest(instance)[:12]}"


def ula_subnet(instance: str) -> str:
    """The instance's own IPv6 subnet: a locally assigned prefix (RFC 4193), of its id instead of random bits."""
    digits = instance_digest(instance)
    return str(ipaddress.IPv6Network((int(f"fd{digits[12:26]}", 16) << 64, 64)))


def candidates(name: str, instance: str) -> tuple[str, str]:
    """The names that the instance's network can have; the second is for where another instance has the first."""
    return name, f"{name}-{instance_digest(instance)[:8]}"


def network(attrs: Mapping[str, Any], instance: str) -> Network:
    """A network from ``GET /networks/{id}``."""
    options = attrs.get("Options") or {}
    owner = (attrs.get("Labels") or {}).get(labels.INSTANCE)
    subnets, gateways = [], []
    for each in (attrs.get("IPAM") or {}).get("Config") or ():
        if not each.get("Subnet"):
            continue
        subnet = ipaddress.ip_network(each["Subnet"], strict=False)
        subnets.append(str(subnet))
        # Where none is told the engine takes the first.
        gateways.append(str(each.get("Gateway") or subnet[1]).partition("/")[0])
    return Network(
        name=attrs["Name"],
        bridge=options.get(BRIDGE_OPTION) or f"br-{attrs['Id'][:12]}",
        subnets=tuple(subnets),
        gateways=tuple(gateways),
        ours=owner == instance,
        foreign=owner is not None and owner != instance,
        is_default=options.get(_DEFAULT_OPTION) == "true",
    )


def create_body(name: str, instance: str, *, ipv6: bool) -> dict[str, Any]:
    """The body of ``POST /networks/create``."""
    body: dict[str, Any] = {
        "Name": name,
        "CheckDuplicate": True,
        "Driver": "bridge",
        "Labels": {labels.INSTANCE: instance},
        "Options": {_ICC_OPTION: "false", BRIDGE_OPTION: bridge_name(instance)},
    }
    if ipv6:
        subnet = ipaddress.IPv6Network(ula_subnet(instance))
        body["EnableIPv6"] = True
        body["IPAM"] = {"Config": [{"Subnet": str(subnet), "Gateway": str(subnet[1])}]}
    return body


def find(client: APIClient, name: str, instance: str) -> Network | None:
    """The network of exactly that name; None too where several have it, none of which can be used by name."""
    try:
        attrs = check(client.get(url(client, f"/networks/{quote(name, safe='')}"), timeout=client.timeout)).json()
    except docker.errors.NotFound:
        return None
    except docker.errors.APIError as error:
        if "ambiguous" in str(error.explanation):
            return None
        raise
    # The engine takes the beginning of an id for a name, too.
    return network(attrs, instance) if attrs.get("Name") == name else None


def find_own(client: APIClient, name: str, instance: str) -> Network | None:
    """The instance's network, or one that an operator made; never another instance's."""
    for candidate in candidates(name, instance):
        found = find(client, candidate, instance)
        if found is not None and not found.foreign:
            return found
    return None


def ensure(client: APIClient, name: str, instance: str, *, ipv6: bool) -> Network:
    """The instance's network, made where it is missing; of several that make it at once, one does."""
    found = find_own(client, name, instance)
    if found is not None:
        return found
    refused: docker.errors.APIError | None = None
    for candidate in candidates(name, instance):
        for with_ipv6 in (True, False) if ipv6 else (False,):
            body = create_body(candidate, instance, ipv6=with_ipv6)
            made = ""
            try:
                answer = check(client.post(url(client, "/networks/create"), json=body, timeout=client.timeout))
                made = str(answer.json()["Id"])
            except docker.errors.APIError as error:
                # Taken (409), the same bridge (403), no IPv6, no subnet left: what counts is what is there now.
                refused = error
            found = find_own(client, name, instance)
            if found is not None:
                return found
            if made:
                # Docker up to 24 gives the same name to instances that ask at the same time. Who sees it steps back.
                _delete(client, made)
                break
    raise EngineFailed(
        f"The engine can't make the runtimes' network {name}; it may be out of subnets (docker network prune)."
    ) from refused


def remove(client: APIClient, name: str, instance: str) -> bool:
    """Remove the instance's network; False where there is none. Nobody else's is touched."""
    found = find_own(client, name, instance)
    if found is None or not found.ours:
        return False
    return _delete(client, found.name)


def _delete(client: APIClient, name_or_id: str) -> bool:
    """Whether there was one to remove."""
    with suppress(docker.errors.NotFound):
        check(client.delete(url(client, f"/networks/{quote(name_or_id, safe='')}"), timeout=client.timeout))
        return True
    return False
