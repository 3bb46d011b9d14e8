"""Named volumes, in any engine."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime_server.engine import labels
from runtime_server.engine.base import ContainerMissing, Mount, VolumeInUse
from runtime_server.errors import EngineFailed
from tests.conformance.conftest import DEADLINE, Bench


def stamped(bench: Bench, **more: str) -> dict[str, str]:
    return {labels.INSTANCE: bench.instance, **more}


def fresh() -> str:
    return f"runtime-server-test-{secrets.token_hex(8)}"


def test_a_volume_is_made_once_and_keeps_its_labels(bench: Bench) -> None:
    name = fresh()
    assert bench.engine.find_volume(name) is None
    made = bench.engine.ensure_volume(name, stamped(bench, team="blue", empty=""))
    assert (made.name, made.labels) == (name, stamped(bench, team="blue", empty=""))
    assert bench.engine.ensure_volume(name, stamped(bench, team="red")) == made
    assert bench.engine.find_volume(name) == made
    assert bench.engine.remove_volume(name) is True
    assert bench.engine.remove_volume(name) is False
    assert bench.engine.find_volume(name) is None


def test_many_make_one_volume_at_once(bench: Bench) -> None:
    name = fresh()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: bench.engine.ensure_volume(name, stamped(bench, n=str(n))), range(8)))
    assert all(each == made[0] for each in made)


def test_the_list_has_ours_with_the_label(bench: Bench) -> None:
    names = {team: fresh() for team in ("blue", "red", "")}
    for team, name in names.items():
        bench.engine.ensure_volume(name, stamped(bench, **({"team": team} if team else {})))
    other = bench.connect("conformance-" + secrets.token_hex(4))
    other.ensure_volume(fresh(), {labels.INSTANCE: other.instance, "team": "blue"})
    assert {each.name: each.labels["team"] for each in bench.engine.list_volumes("team")} == {
        names["blue"]: "blue",
        names["red"]: "red",
    }
    assert len(bench.engine.list_volumes(labels.INSTANCE)) == 3
    assert bench.engine.list_volumes("nothing") == []


def test_foreign_volumes_do_not_exist(bench: Bench) -> None:
    name = fresh()
    other = bench.connect("conformance-" + secrets.token_hex(4))
    other.ensure_volume(name, {labels.INSTANCE: other.instance})
    assert bench.engine.find_volume(name) is None
    assert bench.engine.remove_volume(name) is False
    with pytest.raises(EngineFailed):
        bench.engine.ensure_volume(name, stamped(bench))
    assert other.find_volume(name) is not None


@pytest.mark.parametrize("state", ["created", "running", "paused", "exited"])
def test_a_volume_in_use_stays(bench: Bench, state: str) -> None:
    name = fresh()
    bench.engine.ensure_volume(name, stamped(bench))
    container = bench.create(mounts=(Mount(name, "/data"),))
    if state != "created":
        bench.engine.start(container)
    if state == "paused":
        bench.engine.pause(container)
    if state == "exited":
        bench.engine.stop(container, 0)
    with pytest.raises(VolumeInUse):
        bench.engine.remove_volume(name)
    bench.engine.remove(container)
    assert bench.engine.find_volume(name) is not None
    assert bench.engine.remove_volume(name) is True


def test_a_container_makes_what_is_missing_with_the_mounts_labels(bench: Bench) -> None:
    name = fresh()
    bench.create(mounts=(Mount(name, "/data", labels=stamped(bench, team="blue")),))
    found = bench.engine.find_volume(name)
    assert found is not None
    assert found.labels["team"] == "blue"


def test_sizes_are_bytes(bench: Bench) -> None:
    name = fresh()
    bench.engine.ensure_volume(name, stamped(bench))
    assert _sizes(bench)[name] == 0


def _sizes(bench: Bench) -> Mapping[str, int]:
    """Docker refuses to measure twice at once, and others may be using this engine."""
    ends = time.monotonic() + DEADLINE
    while True:
        try:
            return bench.engine.volume_sizes()
        except EngineFailed:
            assert time.monotonic() < ends
            time.sleep(0.2)


def test_a_folder_of_a_container_that_is_gone(bench: Bench) -> None:
    with pytest.raises(ContainerMissing):
        bench.engine.give_folder(bench.in_state("gone"), "/data")


@pytest.mark.parametrize("user", [None, "0", "nobody", "1000", "1000:1000", "nobodys-name"])
def test_giving_a_folder_succeeds_for_any_user(bench: Bench, user: str | None) -> None:
    container = bench.create(user=user, mounts=(Mount(fresh(), "/data", labels=stamped(bench)),))
    bench.engine.give_folder(container, "/data")
    bench.engine.give_folder(container, "/nowhere")
