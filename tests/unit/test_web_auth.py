from __future__ import annotations

from typing import Any

import pytest

from runtime_server.errors import Unauthorized
from runtime_server.runtimes.caller import Caller
from runtime_server.settings import Settings
from runtime_server.web.auth import LOCAL, KeyRing, parse_keys, presented_key


def settings(**values: Any) -> Settings:
    return Settings.model_validate({"auth": "on", "api_keys": "", **values})


def test_configured_keys_name_their_owner() -> None:
    ring = KeyRing.from_settings(settings(api_keys=" a:k1, b:k2:with:colons ,a:k3,"), "generated")
    assert [ring.caller_of(key).owner for key in ("k1", "k2:with:colons", "k3")] == ["a", "b", "a"]
    for wrong in ("", "generated", "K1", "k", "a:k1", "\udcff\x00", None):
        with pytest.raises(Unauthorized):
            ring.caller_of(wrong)
        assert ring.find(wrong) is None


def test_the_generated_key_is_the_defaults() -> None:
    assert KeyRing.from_settings(settings(), "g").caller_of("g") == Caller("default")


def test_no_key_at_all_lets_nobody_in() -> None:
    assert KeyRing.from_settings(settings(), None).find("") is None


def test_off_lets_everyone_in() -> None:
    assert KeyRing.from_settings(settings(auth="off", api_keys="broken"), None).caller_of(None) is LOCAL


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s3cret", "entry 1: must be name:key"),
        ("a:k,s3cret", "entry 2: must be name:key"),
        ("a:", "entry 1: the key"),
        (":s3cret", "entry 1: the name"),
        ("a b:s3cret", "entry 1: the name"),
        ("a:s3cret s3cret", "entry 1: the key"),
        ("a:s3creté", "entry 1: the key"),
        ("a:s3cret,b:s3cret", "entry 2: the key is another"),
    ],
)
def test_a_wrong_setting_says_where_without_the_key(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_keys(text)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("api_key", "authorization", "key"),
    [
        ("a", "Bearer b", "a"),
        (None, "Bearer b", "b"),
        ("", "BEARER  b ", "b"),
        (None, "Basic b", None),
        (None, "Bearer", None),
        (None, None, None),
    ],
)
def test_x_api_key_wins(api_key: str | None, authorization: str | None, key: str | None) -> None:
    assert presented_key(api_key, authorization) == key
