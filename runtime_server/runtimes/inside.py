"""What callers can do inside of runtimes, and to what they share: one part for each thing."""

from __future__ import annotations

from dataclasses import dataclass

from runtime_server.runtimes.execs import Execs
from runtime_server.runtimes.outputs import Outputs


@dataclass(frozen=True, slots=True)
class Inside:
    """The parts; every method takes who calls, and shows nobody another's."""

    outputs: Outputs
    execs: Execs
