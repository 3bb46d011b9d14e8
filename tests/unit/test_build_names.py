"""What built images may be called."""

from __future__ import annotations

import pytest

from runtime_server.builds.names import Names, folder
from runtime_server.errors import ImageReferenceInvalid, PolicyRefused
from runtime_server.runtimes.caller import Caller
from runtime_server.settings import Settings

ALICE, ROOT = Caller("alice"), Caller("root", admin=True)


def names(prefix: str = "registry.test:5000/sandboxes", **more: object) -> Names:
    return Names(Settings.model_validate({"registry_prefix": prefix, **more}))


@pytest.mark.parametrize(
    ("prefix", "begins"),
    [
        ("registry.test/sandboxes", "registry.test/sandboxes/alice"),
        ("registry.test/sandboxes/", "registry.test/sandboxes/alice"),
        ("localhost:5000", "localhost:5000/alice"),
        ("team", "team/alice"),
    ],
)
def test_the_prefix_is_the_owners_own(prefix: str, begins: str) -> None:
    assert names(prefix).prefix(ALICE) == begins
    assert names(prefix).checked(ALICE, [f"{begins}/runtime:tag"]) == (f"{begins}/runtime:tag",)


def test_or_everybodys() -> None:
    shared = names(shared_builds=True)
    assert shared.prefix(ALICE) == "registry.test:5000/sandboxes"
    assert shared.checked(ALICE, ["registry.test:5000/sandboxes/runtime:a"])
    assert shared.visible(ALICE, "registry.test:5000/sandboxes/anybodys:a")


def test_each_image_is_named_once_and_with_its_tag() -> None:
    own = "registry.test:5000/sandboxes/alice"
    assert names().checked(ALICE, [f"{own}/a", f"{own}/a:latest", f"{own}/a/b:c"]) == (
        f"{own}/a:latest",
        f"{own}/a/b:c",
    )


@pytest.mark.parametrize(
    "image",
    [
        "busybox",
        "registry.test:5000/sandboxes/bob/a",
        "registry.test:5000/sandboxes/alicea/a",
        "registry.test:5000/sandboxes/alice",
        "registry.test:5000/sandboxes-alice/a",
        "registry.test/sandboxes/alice/a",
        "sandboxes/alice/a",
    ],
)
def test_other_names_are_refused(image: str) -> None:
    with pytest.raises(PolicyRefused) as refused:
        names().checked(ALICE, ["registry.test:5000/sandboxes/alice/a", image])
    assert refused.value.extensions["setting"] == "RUNTIME_SERVER_REGISTRY_PREFIX"


def test_spellings_of_docker_hub_are_one() -> None:
    hub = names("team", shared_builds=True)
    assert hub.checked(ALICE, ["docker.io/team/a:1"])
    with pytest.raises(PolicyRefused):
        hub.checked(ALICE, ["registry.test/team/a:1"])


@pytest.mark.parametrize(
    "image",
    [
        "",
        "Upper",
        "registry.test:5000/sandboxes/alice/../bob/a",
        "registry.test:5000/sandboxes/alice/a@sha256:" + "a" * 64,
        "registry.test:5000/sandboxes/alice/a:b c",
        "--tag",
    ],
)
def test_what_is_no_name(image: str) -> None:
    with pytest.raises(ImageReferenceInvalid):
        names().checked(ALICE, [image])


@pytest.mark.parametrize(
    ("settings", "setting"),
    [({"registry_prefix": ""}, "RUNTIME_SERVER_REGISTRY_PREFIX"), ({"builds": "off"}, "RUNTIME_SERVER_BUILDS")],
)
def test_without_builds_the_setting_is_named(settings: dict[str, str], setting: str) -> None:
    own = Names(Settings.model_validate({"registry_prefix": "a/b", **settings}))
    for ask in (lambda: own.prefix(ALICE), lambda: own.checked(ALICE, ["a"])):
        with pytest.raises(PolicyRefused) as refused:
            ask()
        assert refused.value.extensions["setting"] == setting


def test_others_images_do_not_exist() -> None:
    own, theirs = "registry.test:5000/sandboxes/alice/a", "registry.test:5000/sandboxes/bob/a"
    assert names().visible(ALICE, own)
    assert not names().visible(ALICE, theirs)
    assert names().visible(ROOT, theirs)
    assert names().visible(ALICE, "busybox")
    assert names("").visible(ALICE, "busybox")
    with pytest.raises(ImageReferenceInvalid):
        names().visible(ALICE, "/runtime:1")


def test_owners_folders_never_meet() -> None:
    owners = [
        "alice",
        "Alice",
        "a.b",
        "a_b",
        "a__b",
        "a___b",
        "a-",
        "-a",
        "a..b",
        "owner-1",
        folder("Alice"),
        "A" * 64,
    ]
    folders = [folder(each) for each in owners]
    assert len(set(folders)) == len(owners)
    for each in folders:
        assert names().checked(Caller("x"), [f"registry.test:5000/sandboxes/x/{each}:1"])
    assert folders[0] == "alice"


@pytest.mark.parametrize("prefix", ["a b", "a//b", "/a", "a:tag:x", "a@b", "-a", "a..b/c", "a/b:5000"])
def test_a_prefix_that_is_none(prefix: str) -> None:
    with pytest.raises(ValueError, match="registry_prefix"):
        Settings.model_validate({"registry_prefix": prefix})
