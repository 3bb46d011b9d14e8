"""The network of an instance whose name others take at the same moment, which Docker up to 24 allows."""

from __future__ import annotations

import json
from typing import Any, cast
from urllib.parse import unquote

import pytest
import requests
from docker import APIClient

from runtime_server.engine import labels, networks

INSTANCE = "one"


class Networks:
    """An engine's networks, as its API has them.

    Args:
        twins: whether another instance makes one at the same time, by the name that both try first.
    """

    base_url = "http://engine"
    api_version = "1.41"
    timeout = 1.0

    def __init__(self, *, twins: bool) -> None:
        self.twins = twins
        self.there: list[dict[str, Any]] = []

    def get(self, url: str, **_: object) -> requests.Response:
        found = self._named(url)
        if len(found) > 1:
            name = found[0]["Name"]
            return response(400, {"message": f"2 matches found based on name: network {name} is ambiguous"})
        return response(200, found[0]) if found else response(404, {"message": "no such network"})

    def post(self, _url: str, *, json: dict[str, Any], **_: object) -> requests.Response:
        if any(each["Name"] == json["Name"] for each in self.there):
            return response(409, {"message": "exists"})
        if any(each["Options"] == json["Options"] for each in self.there):
            return response(403, {"message": "a network of that bridge exists"})
        if self.twins and json["Name"] == "runtimes":
            self._add(networks.create_body("runtimes", "other", ipv6=False))
        self._add(json)
        return response(201, {"Id": self.there[-1]["Id"]})

    def delete(self, url: str, **_: object) -> requests.Response:
        found = self._named(url)
        assert len(found) == 1
        self.there.remove(found[0])
        return response(204, None)

    def _add(self, body: dict[str, Any]) -> None:
        self.there.append({**body, "Id": f"{len(self.there):064x}"})

    def _named(self, url: str) -> list[dict[str, Any]]:
        wanted = unquote(url.rpartition("/")[2])
        return [each for each in self.there if wanted in (each["Name"], each["Id"])]


def response(status: int, body: object) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made._content = b"" if body is None else json.dumps(body).encode()
    made.headers["Content-Type"] = "application/json"
    return made


@pytest.mark.parametrize("ipv6", [True, False])
def test_of_two_with_one_name_this_one_steps_back(*, ipv6: bool) -> None:
    engine = Networks(twins=True)
    client = cast("APIClient", engine)
    own = networks.candidates("runtimes", INSTANCE)[1]
    found = networks.ensure(client, "runtimes", INSTANCE, ipv6=ipv6)
    assert found.ours
    assert found.name == own
    owners = {each["Name"]: each["Labels"][labels.INSTANCE] for each in engine.there}
    assert owners == {"runtimes": "other", own: INSTANCE}


def test_a_name_that_two_others_have_is_left_to_them() -> None:
    engine = Networks(twins=False)
    client = cast("APIClient", engine)
    for other in ("other", "another"):
        engine._add(networks.create_body("runtimes", other, ipv6=False))
    own = networks.candidates("runtimes", INSTANCE)[1]
    assert networks.find_own(client, "runtimes", INSTANCE) is None
    assert not networks.remove(client, "runtimes", INSTANCE)
    assert networks.ensure(client, "runtimes", INSTANCE, ipv6=False).name == own
    assert networks.remove(client, "runtimes", INSTANCE)
    assert len(engine.there) == 2
