"""A group whose commands are loaded when they are needed: `ls` waits for no web framework."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

PACKAGE = "runtime_server.cli"


class LazyGroup(click.Group):
    """A group with sections in its help.

    Args:
        sections: of the help: a title, and the commands below it with the module and name of each.
        also: further names of commands, which the help leaves out.
    """

    def __init__(
        self,
        *arguments: Any,
        sections: Mapping[str, Mapping[str, str]],
        also: Mapping[str, str],
        **attributes: Any,
    ) -> None:
        super().__init__(*arguments, **attributes)
        self._sections = sections
        self._also = also
        self._places = {name: place for section in sections.values() for name, place in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, section by section."""
        return [*self._places, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, loaded."""
        place = self._places.get(self._also.get(cmd_name, cmd_name))
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(f"{PACKAGE}.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, section by section."""
        width = max(map(len, self._places))
        for title, places in self._sections.items():
            rows = []
            for name in places:
                command = self.get_command(ctx, name)
                if command is not None and not command.hidden:
                    rows.append((name.ljust(width), command.get_short_help_str(formatter.width - width - 6)))
            with formatter.section(title):
                formatter.write_dl(rows)
