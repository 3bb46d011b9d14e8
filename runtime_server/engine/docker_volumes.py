"""The Engine protocol's volumes and folders on Docker's and Podman's HTTP API."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from typing import Any

from docker import APIClient

from runtime_server.engine import answers, folders, users, volumes
from runtime_server.engine import labels as tags
from runtime_server.engine.base import ContainerMissing, Volume
from runtime_server.engine.docker_calls import DockerCalls
from runtime_server.engine.files import Ids
from runtime_server.errors import EngineFailed

MAX_KNOWN = 1024
"""Users of images that are remembered."""
TRIES = 3


class DockerVolumes(DockerCalls):
    """What ``DockerEngine`` can do with volumes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._users: dict[tuple[str, str], Ids | None] = {}

    def ensure_volume(self, name: str, labels: Mapping[str, str]) -> Volume:
        """See ``Engine``."""
        with self._call("volume") as client:
            return volumes.ensure(client, name, self.instance, labels)

    def find_volume(self, name: str) -> Volume | None:
        """See ``Engine``."""
        with self._call("volume") as client:
            return volumes.find(client, name, self.instance)

    def list_volumes(self, label: str) -> list[Volume]:
        """See ``Engine``."""
        with self._call("volume") as client:
            return volumes.listed(client, self.instance, label)

    def volume_sizes(self) -> Mapping[str, int]:
        """See ``Engine``; Docker 20.10 answers 500 while it is reading them for another."""
        with self._call("volume") as client:
            return volumes.used(client)

    def remove_volume(self, name: str) -> bool:
        """See ``Engine``."""
        with self._call("volume") as client:
            return volumes.remove(client, name, self.instance)

    def give_folder(self, container: str, path: str) -> None:
        """See ``Engine``."""
        with self._call("folder", container) as client:
            attrs = client.inspect_container(container)
            if users.is_root(attrs["Config"].get("User") or ""):
                return
            found = folders.folder(client, container, path)
            ids = self._ids(client, attrs)
            if found is None or ids is None or not ids[0]:
                return  # whatever is wrong with it, the engine refuses the start for
            real, mode = found
        try:
            with self._call("folder", container) as client:
                folders.give(client, container, real, mode, ids)
        except answers.ReadOnlyRoot:
            self._give_by_another(attrs, path, real, mode, ids)

    def _ids(self, client: APIClient, attrs: Mapping[str, Any]) -> Ids | None:
        """Of the container's user. What an image's files say is remembered: on 20.10 each costs 50 ms to read."""
        user = str(attrs["Config"]["User"])
        known = (str(attrs["Image"]), user)
        if (ids := users.by_numbers(user)) is not None:
            return ids
        if known not in self._users:
            passwd, groups = (folders.text(client, attrs["Id"], path) for path in ("/etc/passwd", "/etc/group"))
            if len(self._users) >= MAX_KNOWN:
                self._users.clear()
            self._users[known] = users.by_files(user, passwd, groups)
        return self._users[known]

    def _give_by_another(self, attrs: Mapping[str, Any], path: str, real: str, mode: int, ids: Ids) -> None:
        """Through a container that mounts the same volume and is never started: its root isn't read-only.

        It carries this instance's label, so that a sweep finds it where a crash leaves it.
        """
        mounts = [each for each in attrs["HostConfig"].get("Mounts") or () if each["Target"] == path]
        for _ in range(TRIES):
            name = f"{attrs['Name'].lstrip('/')}-{uuid.uuid4().hex[:8]}"
            body = {
                "Image": attrs["Image"],
                "Cmd": ["true"],
                "Labels": {tags.INSTANCE: self.instance, tags.RUNTIME_ID: name},
                "HostConfig": {"NetworkMode": "none", "Mounts": mounts},
            }
            with self._call("create") as client:
                made = client.create_container_from_config(body, name=name)  # type: ignore[no-untyped-call]
            try:
                with contextlib.suppress(ContainerMissing), self._call("folder", made["Id"]) as client:
                    folders.give(client, made["Id"], real, mode, ids)
                    return
            finally:
                with contextlib.suppress(ContainerMissing), self._call("remove", made["Id"]) as client:
                    client.remove_container(made["Id"], v=True, force=True)
        raise EngineFailed("A folder can't be given to the runtime's user.")
