"""The OpenAPI document and the page."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from runtime_server.api import ROUTES
from runtime_server.errors import CATALOGUE, MethodNotAllowed, RuntimeUnanswered, RuntimeUnavailable
from runtime_server.web.openapi import openapi
from runtime_server.web.operation import Operation
from tests.api.conftest import Api

OPERATIONS = [pytest.param(each, id=each.id) for route in ROUTES for each in route.operations.values()]


def test_the_document_is_valid_and_served(api: Api) -> None:
    served = api.get("/openapi.json")
    assert served.headers["Content-Type"] == "application/json"
    assert served.json == json.loads(json.dumps(openapi(ROUTES)))
    OpenAPIV31SpecValidator(served.json).validate()


def test_the_document_has_every_operation_with_its_answers_errors_and_example() -> None:
    document = openapi(ROUTES)
    assert list(document["paths"]) == [route.template for route in ROUTES]
    for route in ROUTES:
        for method, operation in route.operations.items():
            told = document["paths"][route.template][method.lower()]
            assert told["operationId"] == operation.id
            assert set(told["responses"]) == {
                str(each) for each in [*operation.answers, *(problem.status for problem in operation.problems)]
            }
            assert ("requestBody" in told) == (operation.request is not None or bool(operation.body))
            assert told.get("security", "key") == ([] if operation.public else "key")
            keyed = any(each.get("$ref", "").endswith("IdempotencyKey") for each in told["parameters"])
            assert keyed == operation.mutating
            if operation.request is not None:
                assert told["requestBody"]["content"][operation.media_type]["example"]


def test_every_code_is_told_somewhere() -> None:
    told = {problem for route in ROUTES for each in route.operations.values() for problem in each.problems}
    # No route has it: it is what is answered where there is none. RouteNotFound is a route's that is turned off, too.
    # The others are what callers of runtimes get, not those of the API.
    assert set(CATALOGUE.values()) - told == {MethodNotAllowed, RuntimeUnanswered, RuntimeUnavailable}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_examples_fit_their_models(operation: Operation) -> None:
    if operation.request is not None:
        assert operation.request.model_validate(operation.example)
    for answer in operation.answers.values():
        if answer.model is not None:
            assert answer.example is not None
            assert answer.model.model_validate(answer.example).model_dump(mode="json") == answer.example


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert name != "style"
            if name == "id":
                self.ids.append(value or "")
            if name in {"href", "src"}:
                self.links.append(value or "")


def test_the_page_has_every_operation_and_needs_nothing_else(api: Api) -> None:
    result = api.get("/docs")
    policy = result.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    page = _Page()
    page.feed(result.text)
    assert page.ids == [each.id for route in ROUTES for each in route.operations.values()]
    assert page.links == ["/openapi.json", *(f"#{each}" for each in page.ids)]
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert "light dark" in result.text
    assert "@import" not in result.text
    assert "url(" not in result.text
