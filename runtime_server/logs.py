"""Logs: structlog to stderr, one record a line, with the standard library's loggers routed through the same.

Secrets never reach a line: members whose names say that they hold one are replaced, and so are credentials
within texts, such as an ``Authorization`` header or a URL's password.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

HIDDEN: Final = "[hidden]"

_SECRET_NAME = re.compile(
    r"(?i)(^|[_-])(api[_-]?keys?|authorization|cookie|credentials?|pass(word|wd)?|secrets?|tokens?|registry[_-]auth)$"
)
_SECRET_TEXT: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"(?i)\b(x-api-key|x-registry-auth|api[_-]?key|password|secret|token)"
            r"(['\"]?\s*[:=]\s*['\"]?)[^\s'\",}&]+"
        ),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), rf"\1{HIDDEN}@"),
)
"""What a secret looks like within a text, and what is left of it."""

_QUIET: Final = {
    "sqlalchemy": logging.WARNING,
    "alembic": logging.WARNING,
    "urllib3": logging.INFO,
    "docker": logging.INFO,
}
"""Libraries that at their least level would log rows, headers or a line for each engine call."""


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        for pattern, left in _SECRET_TEXT:
            value = pattern.sub(left, value)
        return value
    if isinstance(value, Mapping):
        return {key: HIDDEN if _SECRET_NAME.search(str(key)) else _clean(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(each) for each in value]
    return value


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace what names or looks like a credential. A structlog processor."""
    return {
        key: value if key.startswith("_") else HIDDEN if _SECRET_NAME.search(key) else _clean(value)
        for key, value in event.items()
    }


def _one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep a record on its line: a caller's line break can't forge another record. The traceback is exempt."""
    text = event.get("event")
    if isinstance(text, str):
        event["event"] = text.replace("\r", "\\r").replace("\n", "\\n")
    return event


class _Handler(logging.StreamHandler[TextIO]):
    """Our handler on the root logger, told apart from those of others. Follows a replaced ``sys.stderr``."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _value: TextIO) -> None:
        raise AttributeError("the stream is always sys.stderr")


def _renderers(log_format: str) -> list[Processor]:
    if log_format == "json":
        return [structlog.processors.format_exc_info, hide_secrets, structlog.processors.JSONRenderer(default=str)]
    # NOTE: the rich traceback, structlog's default, prints local variables, and with them keys.
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return [structlog.processors.format_exc_info, hide_secrets, _one_line, console]


def configure(level: str = "info", log_format: Literal["console", "json"] = "console") -> None:
    """Send every record of structlog and of the standard library to stderr. May be called again.

    Args:
        level: the least level that is logged: ``debug``, ``info``, ``warning`` or ``error``.
        log_format: ``console`` for people, ``json`` for machines: one object a line, ``timestamp`` in UTC (ISO 8601).
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # A cached logger would keep the configuration of its first use.
        cache_logger_on_first_use=False,
    )
    handler = _Handler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(log_format)],
        )
    )
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    least = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(least)
    logging.captureWarnings(True)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, quiet))
