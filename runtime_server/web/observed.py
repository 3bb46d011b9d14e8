"""Counting and timing every request, and telling its caller: ``Server-Timing``."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import falcon

from runtime_server.metrics.instruments import OTHER, Metrics
from runtime_server.metrics.timings import current, server_timing
from runtime_server.web.afterwards import afterwards
from runtime_server.web.context import ApiRequest
from runtime_server.web.idempotency import REPLAYED

SERVER_TIMING: Final = "Server-Timing"

ACTIONS: Final = {
    ("POST", "/pause"): "pause",
    ("POST", "/resume"): "resume",
    ("POST", "/stop"): "stop",
    ("POST", "/runtimes/{runtime_id}/restart"): "restart",
    ("DELETE", "/runtimes/{runtime_id}"): "remove",
}
"""Operations whose phases are counted with their answers; a start's are when it is over, which may be later."""


class Observed:
    """Middleware: it goes first, so that its time is the whole request's.

    Args:
        metrics: count.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def process_request(self, req: ApiRequest, _resp: falcon.Response) -> None:
        """Time what is done in this thread for the request from now on."""
        req.context.timings.later = []
        current.set(req.context.timings)

    def process_response(self, req: ApiRequest, resp: falcon.Response, resource: Any, _succeeded: bool) -> None:
        """Tell and count. A stream's time is that of its beginning."""
        timings = req.context.timings
        phases = timings.whole()
        resp.set_header(SERVER_TIMING, server_timing(phases))
        status = falcon.http_status_to_code(resp.status)
        # Others than the route's own are the caller's choice, and there is room for no series of theirs.
        known = resource is None or req.method == "OPTIONS" or hasattr(resource, f"on_{req.method.lower()}")
        method, total = req.method if known else OTHER, phases["total"]
        work, timings.later = timings.later or [], None
        work.append(partial(self._metrics.request, method, req.uri_template, status, total))
        action = ACTIONS.get((req.method, req.uri_template or ""))
        if action is not None and status == 200 and resp.get_header(REPLAYED) is None:
            work.append(partial(self._metrics.lifecycle, action, phases))
        # PERF: a dozen values in mapped files are a few hundredths of a pause, for which its caller needn't wait. A
        # stream may go on for hours.
        for count in work:
            if resp.data is not None:
                afterwards(req, count)
            else:
                count()
        current.set(None)
