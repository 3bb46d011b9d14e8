"""Named servers, in a file of the user's own: an address and, where the user wants it there, a key for each."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs

from runtime_server.paths import check_private

FILE = "contexts.json"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]{0,127}", re.ASCII)
"""As docker's contexts are named."""


class ContextsBroken(Exception):
    """The file, or a name in it, can't be used; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Named:
    """A server that has a name."""

    url: str
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Contexts:
    """What the file says."""

    current: str | None = None
    named: dict[str, Named] = field(default_factory=dict)

    def get(self, name: str) -> Named:
        """The server of that name.

        Raises:
            ContextsBroken: there is none.
        """
        if name not in self.named:
            raise ContextsBroken(f"There is no context {name!r}; `runtime-server context ls` shows what there is.")
        return self.named[name]

    def having(self, name: str, server: Named) -> Contexts:
        """The same with one more."""
        return replace(self, named={**self.named, name: server})

    def without(self, name: str) -> Contexts:
        """The same without that one."""
        self.get(name)
        left = {key: value for key, value in self.named.items() if key != name}
        return Contexts(None if self.current == name else self.current, left)


def checked(name: str) -> str:
    """The name, if a context may have it.

    Raises:
        ContextsBroken: it may not.
    """
    if not _NAME.fullmatch(name):
        raise ContextsBroken(f"{name!r} can't be a context's name: letters, digits and . _ + - can be in it.")
    return name


def path() -> Path:
    """The file: ``contexts.json`` in the platform's folder for a user's settings (``XDG_CONFIG_HOME``)."""
    return platformdirs.user_config_path("runtime-server") / FILE


def read() -> Contexts:
    """What the file says; nothing where there is none.

    Raises:
        ContextsBroken: it isn't one that this version can read.
        NotPrivate: other users can read it.
        OSError: it can't be read.
    """
    place = path()
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Contexts()
    with os.fdopen(descriptor, encoding="utf-8") as file:
        check_private(place, os.fstat(file.fileno()))
        try:
            found: Any = json.load(file)
            named = {name: Named(each["url"], each.get("api_key")) for name, each in found["contexts"].items()}
            return Contexts(found.get("current"), named)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ContextsBroken(f"{place} isn't a file of contexts; remove it or mend it.") from None


def write(contexts: Contexts) -> None:
    """Put it into the file, mode 0600; whole or not at all.

    Raises:
        OSError: the file can't be written.
    """
    place = path()
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = {"current": contexts.current, "contexts": {name: asdict(each) for name, each in contexts.named.items()}}
    descriptor, draft = tempfile.mkstemp(prefix=f".{FILE}.", dir=place.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
        Path(draft).replace(place)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
