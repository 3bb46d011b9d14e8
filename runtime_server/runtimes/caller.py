"""Who calls."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    Attributes:
        owner: the name of its key, stamped on what it starts.
        admin: it sees and acts on the runtimes of all owners; what it starts is its own.
    """

    owner: str
    admin: bool = False

    def sees(self, owner: str) -> bool:
        """Whether that owner's runtimes exist for this caller."""
        return self.admin or owner == self.owner
