"""The catalogue: what the server raises is what the client raises."""

from __future__ import annotations

import inspect
import json
import pickle

import pytest

import runtime_server
from runtime_server import Problem, RuntimeClientError, errors
from runtime_server.errors import CATALOGUE, TYPE_PREFIX
from tests.unit.client_script import Answer, scripted

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, RuntimeClientError)]


@pytest.mark.parametrize("code", CATALOGUE)
def test_each_code_arrives_as_its_class_with_its_fields(code: str) -> None:
    kind = CATALOGUE[code]
    carried = {name: [name] for name in kind.carries}
    sent = kind("What happened.", retry_after=9, **carried)
    body = sent.to_body("request-1")
    assert body["type"] == TYPE_PREFIX + code
    headers = {"Content-Type": "application/problem+json", "Retry-After": "9"}
    with (
        scripted(Answer(sent.status, body, headers)) as (client, adapter),
        pytest.raises(RuntimeClientError) as caught,
    ):
        client.get_runtime("r")
    error = caught.value
    assert type(error) is kind
    assert isinstance(error, Problem)
    assert (error.code, error.status, error.title) == (code, kind.status, kind.title)
    assert (error.detail, error.retryable, error.retry_after) == ("What happened.", kind.retryable, 9.0)
    assert (error.extensions, error.request_id) == (carried, "request-1")
    assert error.attempts == len(adapter.requests) == (8 if kind.retryable else 1)


def test_the_catalogue_has_each_class_once() -> None:
    concrete = [each for each in CLASSES if issubclass(each, Problem) and each.code != "unknown"]
    assert sorted(CATALOGUE) == sorted(each.code for each in concrete)
    assert len(CATALOGUE) == len(concrete)
    for kind in concrete:
        assert 400 <= kind.status < 600
        assert kind.title != Problem.title
        assert kind.__doc__


@pytest.mark.parametrize(("flag", "attempts"), [(True, 8), (False, 1), (None, 8), ("yes", 8)])
def test_a_code_of_a_newer_server_keeps_its_data(flag: object, attempts: int) -> None:
    body = {"code": "engine-on-fire", "detail": "Hot.", "retryable": flag, "request_id": "r1", "degrees": 451}
    with scripted(Answer(503, body)) as (client, _), pytest.raises(Problem) as caught:
        client.get_runtime("r")
    error = caught.value
    assert type(error) is Problem
    assert (error.code, error.status, error.detail, error.request_id) == ("engine-on-fire", 503, "Hot.", "r1")
    assert error.extensions == {"degrees": 451}
    assert (error.attempts, error.retryable) == (attempts, attempts > 1)
    assert Problem.code == "unknown"


@pytest.mark.parametrize(
    "body", [{}, {"detail": {"odd": 1}}, {"code": 7}, {"code": ["x"]}, {"title": "Only a title"}]
)
def test_odd_problem_bodies_are_problems_all_the_same(body: dict[str, object]) -> None:
    with scripted(Answer(418, body)) as (client, _), pytest.raises(Problem) as caught:
        client.get_runtime("r")
    assert (type(caught.value), caught.value.status, caught.value.attempts) == (Problem, 418, 1)
    assert caught.value.detail


@pytest.mark.parametrize("kind", [*CATALOGUE.values(), errors.ServerTimeout], ids=lambda kind: kind.__name__)
def test_errors_survive_the_way_between_processes(kind: type[RuntimeClientError]) -> None:
    error = kind("What happened.")
    error.attempts, error.request_id = 3, "r1"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.args, vars(copy)) == (kind, error.args, vars(error))


def test_the_tree_is_drawn_as_it_is() -> None:
    drawing = errors.__doc__ or ""
    for kind in CLASSES:
        if not issubclass(kind, Problem) or kind is Problem:
            assert kind.__name__ in drawing
    assert issubclass(errors.ServerTimeout, errors.TransportError)
    assert issubclass(errors.ServerUnreachable, errors.TransportError)


def test_every_public_error_and_model_is_a_name_of_the_package() -> None:
    models = [
        name
        for name, each in inspect.getmembers(runtime_server.models, inspect.isclass)
        if each.__module__ == "runtime_server.models"
    ]
    wanted = {*models, *(each.__name__ for each in CLASSES if not each.__name__.startswith("_"))}
    assert wanted | {"RuntimeServerClient", "RetryPolicy"} <= set(runtime_server.__all__)
    assert all(hasattr(runtime_server, name) for name in runtime_server.__all__)
    assert json.dumps(sorted(set(runtime_server.__all__))) == json.dumps(sorted(runtime_server.__all__))
