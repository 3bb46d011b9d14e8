"""Images and caches, of engines that speak Docker's HTTP API."""

from __future__ import annotations

import json
import math
import time
from urllib.parse import quote

from docker.utils import compare_version

from runtime_server.engine import translate
from runtime_server.engine.docker_calls import DockerCalls
from runtime_server.engine.docker_client import check, url
from runtime_server.engine.stock import ListedImage
from runtime_server.errors import ImageNotFound

_DF_BY_TYPE = "1.42"
"""From this API version on ``/system/df`` can be asked for the cache alone."""
PRUNE_TIMEOUT = 600.0
"""Seconds that an engine may take to remove what it has cached."""


class DockerStock(DockerCalls):
    """What ``DockerEngine`` can do with images and caches."""

    def list_images(self) -> list[ListedImage]:
        """See ``StockEngine``."""
        with self._call("images") as client:
            found = check(client.get(url(client, "/images/json"), timeout=client.timeout)).json()
            return [translate.listed_image(each) for each in found]

    def delete_image(self, image: str) -> bool:
        """See ``StockEngine``."""
        translate.image_reference(image)
        try:
            with self._call("remove_image", image=image) as client:
                check(client.delete(url(client, f"/images/{quote(image, safe='/:@')}"), timeout=client.timeout))
        except ImageNotFound:
            return False
        return True

    def build_cache(self, unused_for: float) -> int:
        """See ``StockEngine``."""
        with self._call("cache") as client:
            known = compare_version(_DF_BY_TYPE, client.api_version) >= 0
            params = {"type": "build-cache"} if known else {}
            found = check(client.get(url(client, "/system/df"), params=params, timeout=client.timeout)).json()
            return translate.unused_cache(found, time.time() - unused_for)

    def prune_build_cache(self, unused_for: float) -> int:
        """See ``StockEngine``."""
        filters = json.dumps({"until": [f"{math.ceil(unused_for)}s"]}) if unused_for else "{}"
        with self._call("cache") as client:
            params = {"all": "true", "filters": filters}
            answer = client.post(url(client, "/build/prune"), params=params, timeout=PRUNE_TIMEOUT)
            return int(check(answer).json().get("SpaceReclaimed") or 0)
