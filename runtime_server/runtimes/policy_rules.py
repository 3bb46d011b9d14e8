"""The rules of what a start may ask for: the table that the reference shows, and the refusals that come of it."""

from __future__ import annotations

from dataclasses import dataclass

from runtime_server.errors import PolicyRefused
from runtime_server.settings import PREFIX


@dataclass(frozen=True, slots=True)
class Rule:
    """What one setting rules.

    Attributes:
        setting: its name, without the prefix.
        fields: of a start.
        allows: what may be asked for by default.
    """

    setting: str
    fields: str
    allows: str


RULES = (
    Rule(
        "ALLOWED_IMAGES",
        "`image`",
        "any. Globs are matched with the normalized name: `busybox` is `docker.io/library/busybox`, and without a "
        "tag in the glob any tag or digest goes. Image ids count only for `*`",
    ),
    Rule(
        "VOLUME_ROOTS",
        "`volumes` of the host",
        "folders and files under the roots, symlinks followed. Never the engine's socket or data, the state "
        "directory, `/proc`, `/sys`, `/dev`, what holds one of them, sockets or devices",
    ),
    Rule(
        "RESTART_HOST_PATHS",
        "`volumes` of the host with `restart_policy`",
        "the roots themselves: what lies below could be swapped before the engine's own restart, which nobody checks",
    ),
    Rule("ALLOWED_NETWORKS", "`network`", "`none` only. Never `host`, `container:…` or `ns:…`, even if listed"),
    Rule("PUBLISH_HOST", "`ports[].host_ip`", "that address, and loopback"),
    Rule("HOST_PORTS", "`ports[].host_port`", "1024 to 65535"),
    Rule("ALLOWED_RESTART_POLICIES", "`restart_policy`", "all"),
    Rule("RUNTIME_CLASSES", "`runtime_class`", "the usual names, each as it is; `gvisor=runsc,*=runc` maps others"),
    Rule("ALLOW_PRIVILEGED", "`privileged`", "no"),
    Rule(
        "ALLOW_NEW_PRIVILEGES", "`no_new_privileges: false`", "no; `on` for images that need sudo, as OpenHands' do"
    ),
    Rule(
        "ALLOWED_CAPABILITIES", "`cap_add`", "those of `CAP_ADD`, which every runtime has; `cap_drop` takes any away"
    ),
    Rule("ALLOWED_DEVICES", "`devices`", "none. Globs are matched with the real path"),
    Rule("ALLOW_GPUS", "`gpus`", "no"),
    Rule("MAX_RESOURCE_FACTOR", "`resource_factor`", "up to 8"),
    Rule("MAX_PIDS", "`pids_limit`", "up to 4096"),
    Rule("MAX_ENVIRONMENT_BYTES", "`environment`", "128 KiB, names and values"),
    Rule("MAX_LABELS", "`labels`", "64"),
    Rule("ORIGINS", "`Origin` of a terminal", "the server's own, or none at all: programs that aren't pages"),
    Rule("EXEC_USERS", "`user` of a command in a runtime", "any of the container's; never with more privileges"),
)
"""In the order in which a start names its fields."""

_KNOWN = frozenset(rule.setting for rule in RULES)


def refusal(setting: str, detail: str) -> PolicyRefused:
    """The refusal by a rule.

    Args:
        setting: its name, without the prefix.
        detail: a sentence, without any value of the request.
    """
    assert setting in _KNOWN
    return PolicyRefused(detail, setting=PREFIX + setting)


def table() -> str:
    """The rules as docs/reference/starts.md has them."""
    rows = [f"| {rule.fields} | {rule.allows} | `{rule.setting}` |" for rule in RULES]
    return "\n".join(["| a start's | may by default be | ruled by |", "|---|---|---|", *rows])
