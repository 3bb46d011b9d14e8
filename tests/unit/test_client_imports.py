"""The SDK is light: it loads nothing of the server."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("falcon", "docker", "sqlalchemy", "alembic", "gunicorn", "structlog", "click", "rich", "pydantic_settings")


@pytest.mark.parametrize("module", ["runtime_server", "runtime_server.testing"])
def test_the_client_loads_nothing_of_the_server(module: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "requests" in loaded
    assert loaded.isdisjoint(HEAVY)
