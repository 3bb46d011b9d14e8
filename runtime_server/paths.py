"""Where things lie by default: shared by server and client, so it loads nothing heavy."""

from __future__ import annotations

from pathlib import Path

import platformdirs

API_KEY_FILE = "api-key"
"""The generated key's file in the state directory, mode 0600."""


def default_state_dir() -> Path:
    """Records, the instance's id and a generated key: the platform's state directory."""
    return platformdirs.user_state_path("runtime-server")


def default_volume_root() -> Path:
    """The one folder whose content may be mounted by default: in the platform's data directory."""
    return platformdirs.user_data_path("runtime-server") / "volumes"
