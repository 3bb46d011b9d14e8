"""A container's user as ids, by the rules of engines."""

from __future__ import annotations

import pytest

from runtime_server.engine import users
from runtime_server.engine.files import Ids

PASSWD = """root:x:0:0:root:/root:/bin/sh
# a comment
broken
app:x:1000:1001:App:/home/app:/bin/sh
app:x:7:7:a second entry of that name:/:/bin/sh
1000:x:55:55:a name that is a number:/:/bin/sh
odd:x:many:1:not a number:/:/bin/sh
sneaky:x:0:5:another root:/:/bin/sh
"""
GROUPS = """root:x:0:
staff:x:50:app
50:x:99:
"""


@pytest.mark.parametrize("user", ["", "0", "root", "0:50", "root:staff", ":50"])
def test_root_by_its_spelling(user: str) -> None:
    assert users.is_root(user)


@pytest.mark.parametrize(
    ("user", "ids"),
    [("1000:50", (1000, 50)), ("1000", None), ("app:50", None), ("1000:staff", None), ("1000:", None), ("app", None)],
)
def test_numbers_need_no_file(user: str, ids: Ids | None) -> None:
    assert not users.is_root(user)
    assert users.by_numbers(user) == ids


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("app", (1000, 1001)),
        ("1000", (1000, 1001)),  # a number is an id, whosever name it is
        ("4242", (4242, 0)),
        ("app:staff", (1000, 50)),
        ("app:50", (1000, 50)),
        ("4242:staff", (4242, 50)),
        ("app:4242", (1000, 4242)),
        ("app:nobodys", None),
        ("nobody", None),
        ("odd", None),
        ("sneaky", (0, 5)),
        ("99999999999999999999", None),
        ("²", None),
    ],
)
def test_names_are_the_images(user: str, ids: Ids | None) -> None:
    assert users.by_files(user, PASSWD, GROUPS) == ids


def test_an_image_without_the_files() -> None:
    assert users.by_files("app", "", "") is None
    assert users.by_files("4242", "", "") == (4242, 0)
