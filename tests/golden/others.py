"""Two that only look after what others have started: the evaluation's clean-up script, and the hosted app server's
manager of V0's conversations (``evaluation/utils/scripts/cleanup_remote_runtime.sh`` and
``enterprise/server/saas_nested_conversation_manager.py`` of OpenHands' repository, at 0.62)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.golden.wire import CURL, HTTPX, Wire

AT_ONCE = 16
"""GNU Parallel's ``-j``."""


def clean_up(wire: Wire) -> int:
    """Stop all that is listed, as the script does; returns the total that it prints.

    Where nothing is listed, Parallel still runs once, on the empty line that ``echo`` writes.
    """
    wire.library = CURL
    listed = wire.call("GET", "/list").json()
    ids = [str(each["runtime_id"]) for each in listed["runtimes"]] or [""]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # curl tells no status: the answer only is printed.
        for answer in pool.map(lambda each: wire.call("POST", "/stop", {"runtime_id": each}), ids):
            assert answer.status_code < 500
            answer.json()
    return int(listed["total"])


class NestedConversations:
    """The manager's calls; a conversation is a session."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        wire.library = HTTPX

    def running(self) -> set[str]:
        found = self.wire.call("GET", "/list").json()["runtimes"]
        return {each["session_id"] for each in found if each.get("status") == "running"}

    def runtime(self, session_id: str) -> dict[str, Any] | None:
        answer = self.wire.call("GET", f"/sessions/{session_id}")
        if not answer.ok:
            return None
        # It believes that the answer doesn't name the session.
        return {**answer.json(), "session_id": session_id}

    def status(self, session_id: str) -> str:
        found = self.runtime(session_id)
        status = ((found or {}).get("status") or "").upper()
        known = {"PAUSED": "STOPPED", "STOPPED": "ARCHIVED", "RUNNING": "RUNNING", "STARTING": "STARTING"}
        return known.get(status, "ERROR" if status == "ERROR" else "STOPPED")

    def close(self, session_id: str) -> None:
        """It pauses; what is answered is only logged."""
        found = self.runtime(session_id)
        if found is not None:
            self.wire.call("POST", "/pause", {"runtime_id": found["runtime_id"]})
