"""What callers can do inside of runtimes, and to what they share: one part for each thing."""

from __future__ import annotations

from dataclasses import dataclass

from runtime_server.runtimes.changes import Changes
from runtime_server.runtimes.execs import Execs
from runtime_server.runtimes.files import Files
from runtime_server.runtimes.housekeeping import Housekeeping
from runtime_server.runtimes.images import Images
from runtime_server.runtimes.news import News
from runtime_server.runtimes.outputs import Outputs
from runtime_server.runtimes.restarts import Restarts
from runtime_server.runtimes.terminals import Terminals
from runtime_server.runtimes.usage import Usage
from runtime_server.runtimes.volumes import Volumes


@dataclass(frozen=True, slots=True)
class Inside:
    """The parts; every method takes who calls, and shows nobody another's."""

    outputs: Outputs
    execs: Execs
    terminals: Terminals
    files: Files
    usage: Usage
    news: News
    restarts: Restarts
    changes: Changes
    images: Images
    volumes: Volumes
    housekeeping: Housekeeping
