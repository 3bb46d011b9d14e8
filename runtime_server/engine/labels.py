"""The labels that every container carries: all that a lost record is rebuilt from."""

from __future__ import annotations

from runtime_server.models import RESERVED_PREFIX

INSTANCE = RESERVED_PREFIX + "instance"
RUNTIME_ID = RESERVED_PREFIX + "runtime-id"
NAME = RESERVED_PREFIX + "name"
SESSION_ID = RESERVED_PREFIX + "session-id"
OWNER = RESERVED_PREFIX + "owner"
IMAGE = RESERVED_PREFIX + "image"
CREATED_AT = RESERVED_PREFIX + "created-at"
EXPIRES_AT = RESERVED_PREFIX + "expires-at"
RETENTION = RESERVED_PREFIX + "retention"
SPEC = RESERVED_PREFIX + "spec"
"""What the start asked for, as JSON, without values of its environment."""
AUTO_REMOVE = RESERVED_PREFIX + "auto-remove"
VOLUME = RESERVED_PREFIX + "volume"
"""On a named volume: the name that its owner gave it."""
WORKSPACE = RESERVED_PREFIX + "workspace"
"""On a workspace's volume: where the start that made it mounted it."""
ATTEMPT = RESERVED_PREFIX + "attempt"
"""The operation that made the container or the workspace: a start tells its own from what was there before it."""

SESSION_KEY_VARIABLES = ("OH_SESSION_API_KEYS_0", "SESSION_API_KEY")
"""The session key's names in a container's environment (OpenHands' agent server reads either)."""
