"""Templates as an administrator can read them, with ``%{name}`` where something is filled in.

The standard library's templates do: there is nothing but names in them, whatever depends on a setting is a block that
is made here, and nginx's own ``$variables`` stay as they are.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from importlib.resources import files


class UnfitForNginx(ValueError):
    """A value that can't be written into a configuration; the message names it."""


class _Template(string.Template):
    delimiter = "%"


def render(name: str, values: Mapping[str, str]) -> str:
    """The template of that name with its values.

    Args:
        name: of the file, in this package.
        values: one for each name in the template; a value of several lines takes over its line's indentation.

    Raises:
        KeyError: a name has no value.
    """
    lines = []
    for line in files(__package__).joinpath(name).read_text(encoding="utf-8").splitlines():
        alone = re.fullmatch(r"( *)%\{(\w+)\}", line)
        if alone is None:
            lines.append(_Template(line).substitute(values))
        else:
            lines += [f"{alone[1]}{each}".rstrip() for each in values[alone[2]].splitlines()]
    return "\n".join(lines) + "\n"


def quoted(value: object) -> str:
    """The value as one parameter of a directive, whatever is in it, without variables of nginx's.

    Raises:
        UnfitForNginx: it has a line's end, or a dollar sign, which nginx knows no way to escape.
    """
    text = str(value)
    if not text.isprintable() or "$" in text:
        raise UnfitForNginx(f"{text!r} can't be written into nginx's configuration")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def block(lines: Iterable[str]) -> str:
    """Lines of a template's value."""
    return "\n".join(lines)
