"""Many at once on the real engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from docker import APIClient

from runtime_server import errors
from runtime_server.models import RuntimeStatus
from runtime_server.testing import WsgiAdapter
from tests.engine.images import BUSYBOX
from tests.engine.served import Served, serve


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Served]:
    # As many threads as two workers have: all sixteen may wait for their start.
    with serve(tmp_path_factory.mktemp("parallel"), docker_client, threads=32) as found:
        yield found


def test_sixteen_starts(served: Served) -> None:
    with ThreadPoolExecutor(16) as pool:
        futures = [
            pool.submit(served.start, network="bridge", ports=[{"container_port": 80}], wait=120) for _ in range(16)
        ]
        started = [each.result() for each in futures]

    assert Counter(each.status for each in started) == {RuntimeStatus.RUNNING: 16}
    assert len({each.runtime_id for each in started}) == 16
    assert len({each.ports["80/tcp"][0].HostPort for each in started}) == 16
    assert sorted(str(each.container_id) for each in started) == sorted(each["Id"] for each in served.containers())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: served.client.remove_runtime(each.runtime_id), started))
    assert served.containers() == []


def test_one_alias_has_one_winner(served: Served) -> None:
    def start(_: int) -> str:
        try:
            return served.start(name="the-one", wait=120).runtime_id
        except errors.NameConflict:
            return "conflict"

    with ThreadPoolExecutor(8) as pool:
        outcomes = Counter(pool.map(start, range(8)))

    assert outcomes.pop("conflict") == 7
    assert len(outcomes) == 1
    assert len(served.containers()) == 1
    served.client.remove_runtime("the-one")


def test_one_key_has_one_container(served: Served) -> None:
    body = {"image": BUSYBOX, "command": ["/bin/sleep", "1000"], "network": "none", "wait": 120}
    headers = {"X-API-Key": "key-of-me", "Idempotency-Key": "the-same-for-all"}

    def start(_: int) -> tuple[int, str]:
        with requests.Session() as session:
            session.mount("http://", WsgiAdapter(served.service.app))
            response = session.post("http://testserver/start", json=body, headers=headers)
            return response.status_code, response.json()["runtime_id"]

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(start, range(8)))

    ((status, runtime_id),) = answers
    assert status == 201
    assert len(served.containers()) == 1
    served.client.remove_runtime(runtime_id)


def test_pauses_and_resumes_of_one_runtime_agree_with_the_engine(served: Served) -> None:
    runtime_id = served.start().runtime_id
    calls = [served.client.pause_runtime, served.client.resume_runtime] * 8
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda call: call(runtime_id), calls))

    assert {each.status for each in answers} == {RuntimeStatus.PAUSED, RuntimeStatus.RUNNING}
    engine = served.inspect(runtime_id)["State"]["Status"]
    assert served.client.get_runtime(runtime_id).status == engine
    served.client.remove_runtime(runtime_id)
