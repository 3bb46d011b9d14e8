"""Runtimes over all pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from runtime_server.errors import IncompatibleServer
from runtime_server.models import Runtime, RuntimePage


class RuntimeListing(Iterator[Runtime]):
    """An iterator of runtimes that asks for the next page when it gets there.

    Args:
        fetch: the page at a cursor; none: the first.
    """

    def __init__(self, fetch: Callable[[str | None], RuntimePage]) -> None:
        self._fetch = fetch
        self._runtimes = (runtime for page in self.pages() for runtime in page.runtimes)

    def __next__(self) -> Runtime:
        return next(self._runtimes)

    def pages(self) -> Iterator[RuntimePage]:
        """The pages, from the first on."""
        cursor: str | None = None
        while True:
            page = self._fetch(cursor)
            yield page
            if page.next_cursor is None:
                return
            if page.next_cursor == cursor:
                raise IncompatibleServer("the server's next_cursor leads to the same page again")
            cursor = page.next_cursor
