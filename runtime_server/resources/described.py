"""What the descriptions of several operations share: which problems they raise, and what examples show."""

from __future__ import annotations

from typing import Any, Final

from runtime_server import errors

ENGINE: Final = (errors.EngineUnreachable, errors.EngineTimeout, errors.EngineFailed)
ONE: Final = (errors.RuntimeNotFound,)
ACTION: Final = (*ONE, errors.InvalidState, errors.RuntimeBusy, *ENGINE)
START: Final = (
    *ENGINE,
    errors.PolicyRefused,
    errors.QuotaExceeded,
    errors.NameConflict,
    errors.InvalidState,
    errors.RuntimeBusy,
    errors.PortInUse,
    errors.ImageNotFound,
    errors.ImagePullFailed,
    errors.ImageReferenceInvalid,
    errors.CommandNotFound,
    errors.CommandNotExecutable,
    errors.NetworkNotFound,
    errors.RuntimeClassUnknown,
    errors.LimitOutOfRange,
    errors.MountSourceMissing,
    errors.UserUnknown,
    errors.SpecRejected,
    errors.RegistryCredentialsLost,
    errors.TooManyWaiting,
    errors.ServerDraining,
)

ID: Final = "runtime-0123456789ab"
CONTAINER: Final = "9b0c1f3c5a7e4d2f8a6b0c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f60718293a4b5"
RUNTIME: Final[dict[str, Any]] = {
    "runtime_id": ID,
    "container_id": CONTAINER,
    "name": "agent-7",
    "session_id": None,
    "owner": "default",
    "image": "busybox",
    "status": "running",
    "status_detail": None,
    "created_at": "2026-01-31T12:00:00Z",
    "started_at": "2026-01-31T12:00:00.350000Z",
    "stopped_at": None,
    "expires_at": None,
    "ports": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}]},
    "labels": {"team": "agents"},
    "environment": {"GREETING": None},
    "workspace": None,
    "session_api_key": None,
    "url": "http://127.0.0.1:32768",
    "work_hosts": {},
    "services": {},
    "pod_status": "Ready",
    "container_statuses": [
        {
            "name": ID,
            "ready": True,
            "restart_count": 0,
            "state": "running",
            "reason": None,
            "message": None,
            "exit_code": None,
        }
    ],
    "events": [
        {
            "type": "Normal",
            "reason": "Started",
            "message": "The runtime is running.",
            "timestamp": "2026-01-31T12:00:00.350000Z",
        }
    ],
    "pod_logs": "",
    "exit": None,
    "error": None,
    "restart_count": 0,
    "restart_reasons": [],
    "logs": None,
}
SESSION: Final[dict[str, Any]] = {
    **RUNTIME,
    "name": None,
    "session_id": "3f6c2a9e",
    "session_api_key": "kZ3vJ0pW2bY8dR5tN7xL4qC9sF6hG1mA0eU3iO8yT2w",
    "ports": {
        "60000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}],
        "12000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32770"}],
    },
    "work_hosts": {"http://127.0.0.1:32770": 12000},
    "services": {"work-1": "http://127.0.0.1:32770"},
}


def acted(status: str, message: str) -> dict[str, Any]:
    """An example of an ``ActionResponse``."""
    return {**RUNTIME, "status": status, "message": message, "changed": True, "warnings": []}


EXEC: Final[dict[str, Any]] = {
    "exec_id": CONTAINER,
    "exit_code": 0,
    "timed_out": False,
    "killed": None,
    "duration": 0.113,
    "finished_at": "2026-01-31T12:00:00Z",
    "stdout": "hello\n",
    "stderr": "",
    "truncated": False,
    "encoding": "utf-8",
    "warnings": [],
}

STATS: Final[dict[str, Any]] = {
    "runtime_id": ID,
    "time": "2026-01-31T12:00:00Z",
    "cpu_percent": 12.5,
    "cpus": 2.0,
    "memory_bytes": 27_262_976,
    "memory_limit_bytes": 2_147_483_648,
    "network_rx_bytes": 1_024,
    "network_tx_bytes": 512,
    "block_read_bytes": 0,
    "block_write_bytes": 4_096,
    "pids": 3,
}
HISTORY: Final[dict[str, Any]] = {
    "runtime_id": ID,
    "entries": [
        {"id": 41, "at": "2026-01-31T12:00:00Z", "status": "starting", "detail": None},
        {"id": 42, "at": "2026-01-31T12:00:01Z", "status": "running", "detail": None},
    ],
}
