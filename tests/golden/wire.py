"""How the clients' requests reach a server: as their HTTP libraries send them, written down as they go."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

REQUESTS = {"User-Agent": "python-requests/2.32.3", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
HTTPX = {"User-Agent": "python-httpx/0.28.1", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
CURL = {"User-Agent": "curl/8.5.0", "Accept": "*/*"}

LIMIT = 60.0
"""Seconds that a test waits for an answer. The clients' own limits are shorter, and stand beside their calls."""
LOOKS = 600
"""How often a client looks at most before a test gives up."""

Files = Sequence[tuple[str, tuple[str | None, str] | tuple[str | None, str, str]]]
"""Parts of a form, as both libraries take them: a name, and a file's name, content and type."""


class GaveUp(Exception):
    """The client has given the runtime up, as it does on some answers."""


class Refused(Exception):
    """An answer that the client's ``raise_for_status`` raises on.

    Attributes:
        status: of the answer.
        detail: the error body's, which V0 reads from a JSON object.
    """

    def __init__(self, answer: requests.Response) -> None:
        self.status = answer.status_code
        self.detail = answer.json().get("detail")
        super().__init__(f"{self.status}: {self.detail}")


@dataclass
class Call:
    """A request as it was sent."""

    method: str
    path: str
    body: Any = None


@dataclass
class Wire:
    """A client's way to one server, and to the runtimes' own services.

    Attributes:
        session: has its API at ``base_url``.
        key: this caller's.
        reach: asks a runtime's own service: the status with which a URL answers, or an ``OSError``.
        pause: waits for a moment between two looks.
        library: the headers that the client's HTTP library adds.
        sent: the requests so far.
        wait: seconds that /start waits for readiness; None: as the clients have it, which don't name it.
    """

    session: requests.Session
    base_url: str
    key: str | None
    reach: Callable[[str], int]
    pause: Callable[[], None]
    library: Mapping[str, str] = field(default_factory=lambda: HTTPX)
    headers: dict[str, str] = field(default_factory=dict)
    sent: list[Call] = field(default_factory=list)
    wait: float | None = None

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Any = None,
        files: Files | None = None,
    ) -> requests.Response:
        """Send it, and return whatever answer comes."""
        headers = {**self.library, **self.headers}
        if self.key is not None:
            headers["X-API-Key"] = self.key
        data = None
        if path == "/start" and self.wait is not None:
            body = {**body, "wait": self.wait}
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        self.sent.append(Call(method, path, body))
        return self.session.request(
            method,
            self.base_url + path,
            params=params,
            data=data,
            files=files,
            headers=headers,
            timeout=LIMIT,
            allow_redirects=False,
        )

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Send it, and return the JSON of a good answer.

        Raises:
            Refused: the answer is a 4xx or 5xx.
        """
        answer = self.call(method, path, body, **more)
        if answer.status_code >= 400:
            raise Refused(answer)
        return answer.json()

    def paths(self, **names: str) -> list[str]:
        """The calls so far, with names in the place of identifiers; what was repeated at once is told once."""
        found: list[str] = []
        for call in self.sent:
            text = f"{call.method} {call.path}"
            for name, value in names.items():
                text = text.replace(value, name)
            if not found or found[-1] != text:
                found.append(text)
        return found
