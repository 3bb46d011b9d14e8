"""Named volumes of an instance in the Engine API's JSON; the calls are made on the client that is given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import docker.errors
from docker import APIClient
from docker.utils import compare_version

from runtime_server.engine import labels
from runtime_server.engine.base import Volume, VolumeInUse
from runtime_server.engine.docker_client import check, url
from runtime_server.errors import EngineFailed

_DF_BY_TYPE = "1.42"
"""From this API version on ``/system/df`` can be asked for volumes alone."""
_CONFLICT = 409


def volume(attrs: Mapping[str, Any], instance: str) -> Volume | None:
    """A volume from ``GET /volumes/{name}``; None where it isn't the instance's."""
    found = dict(attrs.get("Labels") or {})
    return Volume(str(attrs["Name"]), found) if found.get(labels.INSTANCE) == instance else None


def sizes(attrs: Mapping[str, Any]) -> dict[str, int]:
    """Bytes by name from ``GET /system/df``; an engine that can't tell says -1, or nothing."""
    told = {str(each["Name"]): (each.get("UsageData") or {}).get("Size", -1) for each in attrs.get("Volumes") or ()}
    return {name: int(size) for name, size in told.items() if size is not None and size >= 0}


def ensure(client: APIClient, name: str, instance: str, wanted: Mapping[str, str]) -> Volume:
    """The volume, made where it is missing; the engine answers with the one that is there, labels and all.

    Raises:
        EngineFailed: it is there and not the instance's.
    """
    body = {"Name": name, "Labels": dict(wanted)}
    attrs = check(client.post(url(client, "/volumes/create"), json=body, timeout=client.timeout)).json()
    found = volume(attrs, instance)
    if found is None:
        raise EngineFailed("A volume that isn't this service's has the name of one that is needed.")
    return found


def find(client: APIClient, name: str, instance: str) -> Volume | None:
    """The instance's volume of exactly that name: Podman takes the beginning of a name, too."""
    try:
        attrs = check(client.get(_path(client, name), timeout=client.timeout)).json()
    except docker.errors.NotFound:
        return None
    found = volume(attrs, instance)
    return found if found is not None and found.name == name else None


def listed(client: APIClient, instance: str, label: str) -> list[Volume]:
    """The instance's volumes that carry the label."""
    filters = {"label": [f"{labels.INSTANCE}={instance}", label]}
    params = {"filters": json.dumps(filters)}
    attrs = check(client.get(url(client, "/volumes"), params=params, timeout=client.timeout)).json()
    found = (volume(each, instance) for each in attrs.get("Volumes") or ())
    return [each for each in found if each is not None and label in each.labels]


def used(client: APIClient) -> dict[str, int]:
    """Bytes by a volume's name."""
    known = compare_version(_DF_BY_TYPE, client.api_version) >= 0
    params = {"type": "volume"} if known else {}
    return sizes(check(client.get(url(client, "/system/df"), params=params, timeout=client.timeout)).json())


def remove(client: APIClient, name: str, instance: str) -> bool:
    """Remove the instance's volume; False where there is none.

    Raises:
        VolumeInUse: a container mounts it.
    """
    if find(client, name, instance) is None:
        return False
    try:
        check(client.delete(_path(client, name), timeout=client.timeout))
    except docker.errors.NotFound:
        return False
    except docker.errors.APIError as error:
        if error.status_code == _CONFLICT:
            raise VolumeInUse(name) from error
        raise
    return True


def _path(client: APIClient, name: str) -> str:
    return url(client, f"/volumes/{quote(name, safe='')}")
