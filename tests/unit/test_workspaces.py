"""Workspaces in the service: what a start gets, what stays, who has it, and what is removed when."""

from __future__ import annotations

import time
from threading import Event, Thread
from typing import Any

import pytest

from runtime_server.engine import labels
from runtime_server.engine.base import Mount, RuntimeSpec, Volume
from runtime_server.errors import (
    CommandNotFound,
    EngineFailed,
    EngineTimeout,
    EngineUnreachable,
    ImageNotFound,
    StorageUnavailable,
    TooManyWaiting,
    ValidationFailed,
    WorkspaceInUse,
    WorkspaceNotFound,
)
from runtime_server.models import RuntimeStatus, StartRequest, Workspace
from runtime_server.runtimes import policy_workspaces, steps
from runtime_server.runtimes.caller import Caller
from runtime_server.service import Service
from tests.unit.conftest import ALICE, BOB, DEADLINE, World, eventually, get, start, status, sweep
from tests.unit.test_starts import crash

ROOT = Caller("root", admin=True)
MISSING: dict[str, Any] = {"command": "nothing-of-that-name", "init": False}
"""A start that fails once its container is there."""


def listed(service: Service, caller: Caller = ALICE, **asked: Any) -> list[Workspace]:
    return service.workspaces.list(caller, **asked).workspaces


def only(service: Service, caller: Caller = ALICE, **asked: Any) -> Workspace:
    (found,) = listed(service, caller, **asked)
    return found


def mounts(world: World, runtime_id: str) -> dict[str, str]:
    """Where the container has which volume."""
    container = next(each for each in world.engine._world.containers.values() if each.runtime_id == runtime_id)
    return {mount.target: mount.source for mount in container.spec.mounts}


def only_volume(world: World) -> str:
    (found,) = world.engine._world.volumes
    return policy_workspaces.workspace_id(found)


def tidy(service: Service, now: float | None = None) -> None:
    service._chores.tidy(time.time() if now is None else now)
    service._chores.settle()


class TestAsking:
    @pytest.mark.parametrize(
        ("asked", "path"),
        [
            ("/work", "/work"),
            ("/work/deep/", "/work/deep"),
            ({"path": "/work"}, "/work"),
            (True, "/workspace"),
            (False, None),
            (None, None),
        ],
    )
    @pytest.mark.parametrize("named", [{"session_id": "s"}, {"name": "agent"}], ids=["session", "alias"])
    def test_the_ways_to_say_it(
        self, world: World, service: Service, asked: Any, path: str | None, named: dict[str, Any]
    ) -> None:
        made = start(service, workspace=asked, **named)
        found = mounts(world, made.runtime_id)
        assert list(found) == ([path] if path else [])
        assert (made.workspace.path if made.workspace else None) == path
        if path:
            told = only(service)
            assert made.workspace is not None
            assert (told.workspace_id, told.volume) == (made.workspace.workspace_id, found[path])
            assert (told.session_id, told.name) == (named.get("session_id"), named.get("name"))
            assert (told.owner, told.path, told.in_use_by) == ("alice", path, [made.runtime_id])
            assert told.created_at == made.created_at
            assert (told.size_bytes, told.expires_at) == (None, None)
        else:
            assert listed(service) == []

    @pytest.mark.parametrize(
        "path", ["work", "/", "//", "//work", "/a//b", "/a/../b", "/a/.", "/a:b", "", "/a\n", {"path": "x"}, {}, 1]
    )
    def test_paths_that_are_none(self, path: Any) -> None:
        with pytest.raises(ValueError, match="workspace"):
            StartRequest.model_validate({"image": "busybox", "session_id": "s", "workspace": path})

    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            ({"workspace": "/w"}, "needs a session_id or a name"),
            ({"workspace": True}, "needs a session_id or a name"),
            (
                {"workspace": "/w", "session_id": "s", "volumes": [{"host_path": "cache", "container_path": "/w/"}]},
                "another mount",
            ),
            ({"workspace": "/w/", "session_id": "s", "tmpfs": {"/w": ""}}, "another mount"),
        ],
    )
    def test_what_has_no_name_or_no_place_is_refused(
        self, world: World, service: Service, fields: dict[str, Any], why: str
    ) -> None:
        with pytest.raises(ValidationFailed, match=why) as caught:
            start(service, **fields)
        assert caught.value.extensions["errors"][0]["loc"] == ["workspace"]
        assert world.engine.calls["ensure_volume"] == world.engine.calls["create"] == 0

    @pytest.mark.parametrize(
        ("fields", "path"),
        [
            ({"session_id": "s"}, "/code"),
            ({"session_id": "s", "workspace": True}, "/code"),
            ({"session_id": "s", "workspace": "/w"}, "/w"),
            ({"session_id": "s", "workspace": None}, "/code"),
            ({"session_id": "s", "workspace": False}, None),
            ({"session_id": "s", "volumes": [{"host_path": "cache", "container_path": "/code"}]}, None),
            ({"name": "agent"}, None),
            ({"name": "agent", "workspace": True}, "/code"),
            ({"name": "oh-remote-runtime-7"}, "/code"),  # a session's of the earliest OpenHands
            ({"session_id": "s", "workspace_mount_path": "code", "workspace_mount_path_in_sandbox": "/code"}, None),
            ({}, None),
        ],
    )
    def test_the_servers_own_path_is_for_sessions(
        self, world: World, fields: dict[str, Any], path: str | None
    ) -> None:
        made = start(world.service(workspace="/code"), **fields)
        assert (made.workspace.path if made.workspace else None) == path
        sources = [each for each in mounts(world, made.runtime_id).values() if "workspace" in each]
        assert len(sources) == (1 if path else 0)

    def test_a_session_that_runs_already_says_what_differs(self, world: World) -> None:
        service = world.service(workspace="/code")
        start(service, session_id="s")
        assert start(service, session_id="s").warnings == []
        again = start(service, session_id="s", workspace="/w")
        assert again.warnings == ["workspace differs from the session's live runtime and was not applied"]

    def test_a_setting_that_changes_changes_no_runtime(self, world: World) -> None:
        start(world.service(workspace="/code"), session_id="s")
        assert only(world.service(workspace="")).path == "/code"


class TestOneAndTheSame:
    def test_a_session_keeps_its_volume(self, world: World, service: Service) -> None:
        first = start(service, session_id="s", workspace="/w")
        volume = mounts(world, first.runtime_id)["/w"]
        service.manager.stop(ALICE, first.runtime_id)
        second = start(service, session_id="s", workspace="/elsewhere")
        assert second.runtime_id != first.runtime_id
        assert mounts(world, second.runtime_id) == {"/elsewhere": volume}
        told = only(service)
        assert (told.path, told.in_use_by) == ("/w", [first.runtime_id, second.runtime_id])
        for each in (first, second):
            service.manager.remove(ALICE, each.runtime_id)
        assert only(service).in_use_by == []
        assert world.engine.calls["remove_volume"] == 0

    def test_expiry_and_auto_remove_keep_it(self, world: World, service: Service) -> None:
        made = start(service, session_id="s", workspace="/w", ttl=1, auto_remove=True)
        service._chores.expire(time.time() + 2)
        service._chores.settle()
        assert status(service, made.runtime_id) is RuntimeStatus.REMOVED
        assert only(service).in_use_by == []

    def test_all_others_are_others(self, world: World, service: Service) -> None:
        volumes = {
            mounts(world, start(service, caller=caller, workspace="/w", **fields).runtime_id)["/w"]
            for caller, fields in [
                (ALICE, {"session_id": "s"}),
                (ALICE, {"session_id": "s2"}),
                (ALICE, {"name": "s"}),
                (ALICE, {"session_id": "both", "name": "s3"}),
                (BOB, {"session_id": "s"}),
            ]
        }
        assert len(volumes) == 5
        assert policy_workspaces.named("other", "alice", session_id="s") not in volumes

    def test_an_alias_beside_a_session_doesnt_count(self, world: World, service: Service) -> None:
        first = start(service, session_id="s", name="one", workspace="/w")
        service.manager.remove(ALICE, first.runtime_id)
        second = start(service, session_id="s", name="two", workspace="/w")
        assert only(service).in_use_by == [second.runtime_id]
        assert only(service).name is None

    def test_an_alias_finds_it_again(self, world: World, service: Service) -> None:
        first = start(service, name="agent", workspace="/w")
        service.manager.remove(ALICE, first.runtime_id)
        second = start(service, name="agent", workspace="/w")
        assert only(service).in_use_by == [second.runtime_id]

    def test_no_volume_of_a_caller_is_a_workspace(self, world: World, service: Service) -> None:
        start(service, session_id="s", workspace="/w")
        hidden = only(service).volume
        for name in (hidden, hidden.removeprefix("runtime-server-"), "workspace"):
            made = start(service, volumes=[{"host_path": name, "container_path": "/v"}])
            assert mounts(world, made.runtime_id)["/v"] != hidden
        assert len(listed(service)) == 1

    @pytest.mark.parametrize(
        "theirs",
        [{}, {labels.INSTANCE: "another"}, {labels.INSTANCE: "MINE", labels.OWNER: "bob"}],
        ids=["plain", "another instance's", "another owner's"],
    )
    def test_a_foreign_volume_of_that_name_is_never_mounted(
        self, world: World, service: Service, theirs: dict[str, str]
    ) -> None:
        name = policy_workspaces.named(world.state.instance, "alice", name="agent")
        own = {key: world.state.instance if value == "MINE" else value for key, value in theirs.items()}
        volumes = world.engine._world.volumes
        volumes[name] = Volume(name, own)
        with pytest.raises(EngineFailed, match=r"has (the|its) name"):
            start(service, name="agent", workspace="/w")
        assert world.engine.calls["create"] == 0
        assert volumes[name].labels == own


class TestGiving:
    def test_the_folder_is_given_between_create_and_start(self, world: World, service: Service) -> None:
        seen: list[str] = []
        for method in ("ensure_volume", "create", "give_folder", "start"):
            world.engine.hook(method, lambda method=method: seen.append(method))  # type: ignore[misc]
        made = start(service, session_id="s", workspace="/w", user="1000")
        assert seen == ["ensure_volume", "create", "give_folder", "start"]
        assert world.engine.given == [(made.runtime_id, "/w")]
        start(service)
        assert seen[4:] == ["create", "start"]

    @pytest.mark.parametrize("step", ["recorded", "created", "started", "inspected"])
    def test_after_a_crash_it_is_the_same_and_given_once(self, world: World, service: Service, step: str) -> None:
        crash(world, world.service(), step, session_id="s", workspace="/w")
        assert len(world.engine._world.volumes) == (0 if step == "recorded" else 1)
        sweep(service)
        record = service.store.by_session("alice", "s")
        assert record is not None
        assert service.starts.await_start(record.runtime_id, DEADLINE).status is RuntimeStatus.RUNNING
        # What has run isn't touched any more.
        assert world.engine.given == [(record.runtime_id, "/w")]
        assert only(service).in_use_by == [record.runtime_id]


class TestFailing:
    def test_a_failed_start_leaves_no_workspace_that_it_made(self, world: World, service: Service) -> None:
        with pytest.raises(CommandNotFound):
            start(service, name="agent", workspace="/w", **MISSING)
        # A session's clients are told by the runtime's state.
        assert start(service, session_id="s", workspace="/w", **MISSING).status is RuntimeStatus.ERROR
        assert listed(service) == []
        assert world.engine._world.volumes == {}

    def test_a_failed_start_leaves_what_was_there(self, world: World, service: Service) -> None:
        made = start(service, name="agent", workspace="/w")
        service.manager.remove(ALICE, made.runtime_id)
        with pytest.raises(CommandNotFound):
            start(service, name="agent", workspace="/w", **MISSING)
        assert only(service).in_use_by == []

    def test_without_an_image_there_is_no_workspace(self, world: World, service: Service) -> None:
        with pytest.raises(ImageNotFound):
            start(service, image="nothing", name="agent", workspace="/w")
        assert world.engine._world.volumes == {}

    def test_what_an_engine_that_was_away_keeps_is_listed(self, world: World, service: Service) -> None:
        world.engine.fail_next("create", EngineTimeout())
        world.engine.fail_next("find_volume", EngineTimeout())
        with pytest.raises(EngineTimeout):
            start(service, session_id="s", workspace="/w")
        assert only(service).in_use_by == []

    def test_a_second_attempt_has_it_too(self, world: World, service: Service) -> None:
        world.engine.fail_next("create", EngineUnreachable())
        with pytest.raises(EngineUnreachable):
            start(service, key="k", session_id="s", workspace="/w")
        made = start(service, key="k", session_id="s", workspace="/w")
        assert only(service).in_use_by == [made.runtime_id]

    def test_a_start_that_is_stopped_early_leaves_none(self, world: World, service: Service) -> None:
        begun, go_on = Event(), Event()

        def hold(step: str, _: str) -> None:
            if step == "created":
                begun.set()
                assert go_on.wait(DEADLINE)

        steps.hooks.append(hold)
        made = start(service, session_id="s", workspace="/w", wait=0)
        assert begun.wait(DEADLINE)
        assert made.workspace is not None
        assert only_volume(world) == made.workspace.workspace_id
        stop = Thread(target=service.manager.stop, args=(ALICE, made.runtime_id))
        stop.start()
        eventually(lambda: status(service, made.runtime_id) is RuntimeStatus.STOPPING)
        go_on.set()
        stop.join(DEADLINE)
        assert status(service, made.runtime_id) is RuntimeStatus.STOPPED
        assert world.engine._world.volumes == {}


class TestReading:
    def test_owners_and_admins(self, service: Service) -> None:
        mine, theirs = (start(service, caller=who, session_id="s", workspace="/w") for who in (ALICE, BOB))
        assert [each.owner for each in listed(service)] == ["alice"]
        assert sorted(each.owner for each in listed(service, ROOT)) == ["alice", "bob"]
        assert [each.owner for each in listed(service, ROOT, owner="bob")] == ["bob"]
        assert listed(service, BOB, owner="alice") == []
        assert mine.workspace is not None
        assert theirs.workspace is not None
        for name in (mine.workspace.workspace_id, "s"):
            assert service.workspaces.get(ALICE, name).owner == "alice"
        with pytest.raises(WorkspaceNotFound):
            service.workspaces.get(BOB, mine.workspace.workspace_id)
        with pytest.raises(WorkspaceNotFound, match="Several"):
            service.workspaces.get(ROOT, "s")
        assert service.workspaces.get(ROOT, theirs.workspace.workspace_id).owner == "bob"
        own = start(service, caller=ROOT, session_id="s", workspace="/w")
        assert service.workspaces.get(ROOT, "s").in_use_by == [own.runtime_id]

    def test_a_session_goes_before_an_alias_and_an_id_before_both(self, service: Service) -> None:
        by_alias, by_session = (
            start(service, name="x", workspace="/w"),
            start(service, session_id="x", workspace="/w"),
        )
        assert service.workspaces.get(ALICE, "x").in_use_by == [by_session.runtime_id]
        assert by_alias.workspace is not None
        start(service, session_id=by_alias.workspace.workspace_id, workspace="/w")
        assert service.workspaces.get(ALICE, by_alias.workspace.workspace_id).name == "x"

    def test_pages(self, service: Service) -> None:
        ids = [start(service, session_id=f"s{n}", workspace="/w").workspace for n in range(5)]
        seen: list[str] = []
        cursor = None
        for size in (2, 2, 1):
            page = service.workspaces.list(ALICE, limit=2, cursor=cursor)
            assert len(page.workspaces) == size
            seen += [each.workspace_id for each in page.workspaces]
            cursor = page.next_cursor
        assert cursor is None
        assert seen == [each.workspace_id for each in reversed(ids) if each]
        with pytest.raises(ValidationFailed):
            service.workspaces.list(ALICE, cursor="nonsense")

    def test_sizes_are_measured_only_if_asked_for(self, world: World, service: Service) -> None:
        start(service, session_id="s", workspace="/w")
        assert only(service).size_bytes is None
        assert world.engine.calls["volume_sizes"] == 0
        assert only(service, sizes=True).size_bytes == 0
        assert service.workspaces.get(ALICE, "s", sizes=True).size_bytes == 0
        for failure in (EngineFailed(), EngineTimeout()):
            world.engine.fail_next("volume_sizes", failure)
            assert only(service, sizes=True).size_bytes is None

    def test_measuring_takes_a_place_of_those_that_wait(self, service: Service) -> None:
        start(service, session_id="s", workspace="/w")
        places = service.settings.slow_lane
        held = [service.lane.place() for _ in range(places)]
        for each in held:
            each.__enter__()
        with pytest.raises(TooManyWaiting):
            listed(service, sizes=True)
        for each in held:
            each.__exit__(None, None, None)
        assert only(service, sizes=True).size_bytes == 0

    def test_last_use_is_when_a_runtime_began_or_ended(self, service: Service) -> None:
        made = start(service, session_id="s", workspace="/w")
        began = only(service).last_used_at
        assert began is not None
        service.manager.pause(ALICE, made.runtime_id)
        assert only(service).last_used_at == began
        service.manager.resume(ALICE, made.runtime_id)
        service.manager.remove(ALICE, made.runtime_id)
        ended = only(service).last_used_at
        assert ended is not None
        assert ended > began
        stopped = get(service, made.runtime_id).stopped_at
        assert stopped is not None
        assert ended >= stopped

    def test_nothing_is_told_while_records_are_rebuilt(self, world: World, service: Service) -> None:
        start(service, session_id="s", workspace="/w")
        world.state.rebuilding.touch()
        for call in (service.workspaces.get, service.workspaces.delete):
            with pytest.raises(StorageUnavailable):
                call(ALICE, "s")


class TestDeleting:
    def test_one_that_nobody_has(self, world: World, service: Service) -> None:
        made = start(service, session_id="s", workspace="/w")
        service.manager.remove(ALICE, made.runtime_id)
        done = service.workspaces.delete(ALICE, "s")
        assert made.workspace is not None
        assert (done.workspace_id, done.changed) == (made.workspace.workspace_id, True)
        assert listed(service) == []
        assert world.engine._world.volumes == {}
        assert service.store.workspaces.last_used() == {}
        with pytest.raises(WorkspaceNotFound):
            service.workspaces.delete(ALICE, "s")

    @pytest.mark.parametrize("state", ["running", "paused", "stopped", "starting"])
    def test_one_that_a_runtime_has(self, world: World, service: Service, state: str) -> None:
        made = start(service, session_id="s", workspace="/w")
        if state == "paused":
            service.manager.pause(ALICE, made.runtime_id)
        if state == "stopped":
            service.manager.stop(ALICE, made.runtime_id)
        if state == "starting":
            service.store.change(made.runtime_id, status=RuntimeStatus.STARTING, container_id=None)
        calls = world.engine.calls["remove_volume"]
        with pytest.raises(WorkspaceInUse) as caught:
            service.workspaces.delete(ALICE, "s")
        assert caught.value.extensions == {"runtime_ids": [made.runtime_id]}
        assert world.engine.calls["remove_volume"] == calls

    def test_one_that_a_container_has_which_no_record_tells_of(self, world: World, service: Service) -> None:
        made = start(service, session_id="s", workspace="/w")
        service.store.change(made.runtime_id, status=RuntimeStatus.REMOVED)
        with pytest.raises(WorkspaceInUse):
            service.workspaces.delete(ALICE, "s")
        assert len(listed(service)) == 1

    def test_anothers_is_as_none(self, service: Service) -> None:
        made = start(service, session_id="s", workspace="/w")
        service.manager.remove(ALICE, made.runtime_id)
        assert made.workspace is not None
        for name in ("s", made.workspace.workspace_id):
            with pytest.raises(WorkspaceNotFound):
                service.workspaces.delete(BOB, name)
        assert service.workspaces.delete(ROOT, "s").changed

    @pytest.mark.parametrize("name", ["s", "id"])
    @pytest.mark.parametrize("caller", [ALICE, ROOT], ids=["owner", "admin"])
    def test_an_answer_that_was_lost(self, world: World, service: Service, name: str, caller: Caller) -> None:
        made = start(service, session_id="s", workspace="/w")
        service.manager.remove(ALICE, made.runtime_id)
        world.engine.fail_next("remove_volume", EngineTimeout(), after=True)
        assert made.workspace is not None
        name = made.workspace.workspace_id if name == "id" or caller.admin else name
        with pytest.raises(EngineTimeout):
            service.workspaces.delete(caller, name)
        with pytest.raises(WorkspaceNotFound):
            service.workspaces.delete(BOB, name)
        assert service.workspaces.delete(caller, name).changed is False
        with pytest.raises(WorkspaceNotFound):
            service.workspaces.delete(caller, name)


class TestRetention:
    @pytest.fixture
    def service(self, world: World) -> Service:
        return world.service(workspace_retention=100.0)

    @pytest.fixture
    def unused(self, service: Service) -> str:
        made = start(service, session_id="s", workspace="/w")
        service.manager.remove(ALICE, made.runtime_id)
        return made.runtime_id

    def test_an_unused_one_goes_when_its_time_is_over(self, service: Service, unused: str) -> None:
        told = only(service)
        assert told.last_used_at is not None
        assert told.expires_at is not None
        assert told.expires_at.timestamp() == told.last_used_at.timestamp() + 100
        tidy(service, told.expires_at.timestamp() - 1)
        assert len(listed(service)) == 1
        self.age(service, 101)
        tidy(service)
        assert listed(service) == []
        assert service.store.workspaces.last_used() == {}

    def age(self, service: Service, seconds: float) -> None:
        for volume, last in service.store.workspaces.last_used().items():
            service.store.workspaces.used_now(volume, last - seconds)

    @pytest.mark.parametrize("state", ["running", "paused", "stopped"])
    def test_one_in_use_stays(self, world: World, service: Service, state: str) -> None:
        made = start(service, session_id="s", workspace="/w")
        if state == "paused":
            service.manager.pause(ALICE, made.runtime_id)
        if state == "stopped":
            service.manager.stop(ALICE, made.runtime_id)
        self.age(service, 1000)
        tidy(service)
        assert only(service).expires_at is None
        assert world.engine.calls["remove_volume"] == 0
        service.manager.remove(ALICE, made.runtime_id)
        tidy(service)
        assert len(listed(service)) == 1  # its time began when the last runtime went

    def test_a_start_at_the_last_moment_saves_it(self, world: World, service: Service, unused: str) -> None:
        self.age(service, 101)
        (due,) = service.workspaces.expired(time.time())
        start(service, session_id="s", workspace="/w")
        service.workspaces.expire(due)
        assert len(listed(service)) == 1
        assert world.engine.calls["remove_volume"] == 0

    def test_zero_is_for_ever(self, world: World, unused: str) -> None:
        kept = world.service(workspace_retention=0.0)
        self.age(kept, 1e9)
        tidy(kept)
        assert only(kept).expires_at is None

    def test_an_engine_that_fails_is_asked_again(self, world: World, service: Service, unused: str) -> None:
        self.age(service, 101)
        world.engine.fail_next("remove_volume", EngineTimeout())
        tidy(service)
        assert len(listed(service)) == 1
        tidy(service)
        assert listed(service) == []

    def test_a_container_that_isnt_ours_keeps_it_from_being_tried_all_the_time(
        self, world: World, service: Service, unused: str
    ) -> None:
        self.age(service, 101)
        mount = Mount(only(service).volume, "/w")
        world.engine.sibling("another").create(RuntimeSpec("theirs", "busybox", {}, mounts=(mount,)))
        tidy(service)
        assert len(listed(service)) == 1
        assert service.workspaces.expired(time.time()) == []


class TestLosing:
    def test_a_lost_database_is_rebuilt_from_labels(self, world: World, service: Service) -> None:
        gone, there = (start(service, session_id=name, workspace="/w") for name in ("gone", "there"))
        service.manager.remove(ALICE, gone.runtime_id)
        service.manager.stop(ALICE, there.runtime_id)
        before = {each.session_id: each for each in listed(service)}
        service.close()
        world.fresh_database()
        again = world.service(workspace_retention=100.0)
        lost = time.time()
        sweep(again)
        after = {each.session_id: each for each in listed(again)}
        assert after["there"].in_use_by == [there.runtime_id]
        assert after["gone"].in_use_by == []
        for name, each in after.items():
            assert each.last_used_at is not None
            assert each.last_used_at.timestamp() >= lost
            same = {"last_used_at", "expires_at"}
            assert each.model_dump(exclude=same) == before[name].model_dump(exclude=same)
        adopted = get(again, there.runtime_id)
        assert adopted.workspace == there.workspace
        with pytest.raises(WorkspaceInUse):
            again.workspaces.delete(ALICE, "there")

    def test_a_volume_removed_by_somebody_else_is_forgotten(self, world: World, service: Service) -> None:
        made = start(service, session_id="s", workspace="/w")
        service.manager.remove(ALICE, made.runtime_id)
        world.engine._world.volumes.clear()
        assert listed(service) == []
        sweep(service)
        assert service.store.workspaces.last_used() == {}

    def test_a_row_without_a_volume_stays_while_a_start_may_make_it(self, world: World, service: Service) -> None:
        made = start(service, session_id="s", workspace="/w")
        service.store.change(made.runtime_id, status=RuntimeStatus.STARTING, container_id=None)
        volumes, world.engine._world.volumes = dict(world.engine._world.volumes), {}
        service.workspaces.compare()
        assert list(service.store.workspaces.last_used()) == list(volumes)

    @pytest.mark.parametrize("failure", [EngineFailed(), StorageUnavailable()])
    def test_a_sweep_goes_on_where_volumes_cant_be_listed(self, world: World, service: Service, failure: Any) -> None:
        world.engine.fail_next("list_volumes", failure)
        service.reconciler.sweep()
        world.engine.fail_next("list_volumes", EngineUnreachable())
        with pytest.raises(EngineUnreachable):
            service.reconciler.sweep()
