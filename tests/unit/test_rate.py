"""Requests a second: one bucket for each owner, whatever process counts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from falcon.testing import TestClient

from runtime_server.errors import RateLimited
from runtime_server.runtimes.quotas import Rates
from runtime_server.settings import OwnerLimits, Settings
from runtime_server.testing import in_memory_server


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def taken(rates: Rates, owner: str, tries: int = 100) -> int:
    count = 0
    for _ in range(tries):
        try:
            rates.take(owner)
        except RateLimited:
            continue
        count += 1
    return count


def test_two_processes_share_an_owners_tokens(tmp_path: Path) -> None:
    clock = Clock()
    settings = Settings(requests_per_second=5, owner_limits={"slow": OwnerLimits(requests_per_second=0.1)})
    one, other = Rates(settings, tmp_path, clock), Rates(settings, tmp_path, clock)
    assert taken(one, "ada", 4) + taken(other, "ada") == 10
    clock.now += 1
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda rates: taken(rates, "ada", 10), [one, other] * 4)) == 5
    assert taken(other, "bob") == 10
    assert taken(one, "slow") == 1
    with pytest.raises(RateLimited) as caught:
        other.take("slow")
    assert caught.value.retry_after == 10
    clock.now -= 100_000  # a clock that is set back locks nobody out
    assert taken(one, "ada") == 10
    one.close()
    other.close()


def test_the_api_refuses_and_keeps_health_free() -> None:
    with in_memory_server(api_keys="ada:key-ada,bob:key-bob", requests_per_second=0.001) as server:
        ada = TestClient(server.app, headers={"X-API-Key": "key-ada"})
        assert ada.simulate_get("/runtimes").status_code == 200
        over = ada.simulate_get("/runtimes")
        assert (over.status_code, over.json["code"], over.json["retryable"]) == (429, "rate-limited", True)
        assert int(over.headers["Retry-After"]) > 900
        assert ada.simulate_get("/healthz").status_code == 200
        assert TestClient(server.app, headers={"X-API-Key": "key-bob"}).simulate_get("/runtimes").status_code == 200


def test_without_a_limit_nothing_is_kept(tmp_path: Path) -> None:
    rates = Rates(Settings(), tmp_path)
    rates.take("ada")
    assert not rates.any
    assert not list(tmp_path.iterdir())
