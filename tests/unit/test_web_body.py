from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from runtime_server.errors import MalformedJson, ValidationFailed
from runtime_server.web.body import MAX_DEPTH, fail, parse_json


class _Cat(BaseModel):
    kind: Literal["cat"]


class _Dog(BaseModel):
    kind: Literal["dog"]


class _Talkative(BaseModel):
    """Models whose own words hold the input."""

    word: str = "x"
    pet: Annotated[_Cat | _Dog, Field(discriminator="kind")] = _Cat(kind="cat")

    @field_validator("word")
    @classmethod
    def _no(cls, value: str) -> str:
        raise ValueError(f"{value} is not nice")


@pytest.mark.parametrize("given", [{"word": "hunter2"}, {"pet": {"kind": "hunter2"}}])
def test_messages_that_hold_the_input_are_replaced(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        _Talkative.model_validate(given)
    with pytest.raises(ValidationFailed) as told:
        fail(caught.value)
    assert "hunter2" not in str(told.value) + str(told.value.extensions)


def test_nesting_is_allowed_up_to_the_limit() -> None:
    def nested(depth: int) -> bytes:
        return b"[" * depth + b"]" * depth

    assert parse_json(nested(MAX_DEPTH), "application/json")
    with pytest.raises(MalformedJson, match="deep"):
        parse_json(nested(MAX_DEPTH + 1), "application/json")
    wide = b"[" + b",".join([b"{}"] * 1000) + b"]"
    assert len(parse_json(wide, "application/json")) == 1000


def test_surrogate_pairs_are_text() -> None:
    assert parse_json(b'{"a": "\\ud83d\\ude00"}', "application/json") == {"a": "\U0001f600"}
