"""What a command in a runtime may ask for."""

from __future__ import annotations

import secrets
from fnmatch import fnmatchcase

from runtime_server.engine.inside import ExecSpec
from runtime_server.models import ExecRequest
from runtime_server.runtimes.policy_rules import refusal
from runtime_server.settings import Settings


def exec_spec(settings: Settings, request: ExecRequest, *, interactive: bool = False) -> ExecSpec:
    """The command's specification: within the container, with none of its own privileges.

    Args:
        settings: the operator's rules.
        request: what was asked.
        interactive: its input comes later.

    Raises:
        PolicyRefused: a rule forbids it; the error names the setting.
    """
    if request.user is not None and not _allowed(request.user, settings.exec_users):
        raise refusal("EXEC_USERS", "That user isn't among RUNTIME_SERVER_EXEC_USERS.")
    size = sum(len(f"{name}={value}".encode()) + 1 for name, value in request.environment.items())
    if size > settings.max_environment_bytes:
        raise refusal("MAX_ENVIRONMENT_BYTES", f"The environment may have {settings.max_environment_bytes} bytes.")
    return ExecSpec(
        command=request.words,
        marker=secrets.token_hex(16),
        environment=request.environment,
        working_dir=request.working_dir,
        user=request.user,
        tty=request.tty,
        stdin=interactive or request.stdin is not None,
    )


def _allowed(user: str, globs: tuple[str, ...]) -> bool:
    """Whether a glob fits the user, its group left aside: a number is not looked up, so root by it is ``0``."""
    name = user.partition(":")[0]
    return any(fnmatchcase(name, glob) for glob in globs)
