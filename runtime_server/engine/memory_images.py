"""The in-memory engine's images: references, what is present, what can be pulled, what their commands do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime_server.errors import ImageNotFound, ImageReferenceInvalid

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>[A-Za-z][\w+.-]*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
"""The distribution project's reference grammar; an empty name is accepted by Engine API 1.41 and refused here."""
_MAX_NAME = 255


def normalise(image: str) -> str:
    """The reference in full, e.g. ``docker.io/library/busybox:latest`` for ``busybox``.

    Raises:
        ImageReferenceInvalid: it isn't a reference.
    """
    match = _REFERENCE.fullmatch(image)
    if match is None or len(match["name"]) > _MAX_NAME:
        raise ImageReferenceInvalid(f"{image!r} is not a valid image reference", image=image)
    name = match["name"]
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        name = f"docker.io/{name}"
    if match["digest"]:
        return f"{name}@{match['digest']}"
    return f"{name}:{match['tag'] or 'latest'}"


@dataclass(frozen=True, slots=True)
class Program:
    """What a command does in the in-memory engine.

    Attributes:
        exit_code: it ends at once with this; None: it runs until something ends it.
        output: what it has written by then; None: its arguments, as ``echo`` does.
        heeds_term: whether TERM ends it. A process 1 without an init ignores TERM all the same, as Linux has it.
        exec_error: 127 for a command that isn't there, 126 for one that isn't executable, 0 otherwise.
        errors: what it has written to stderr by then.
        echoes: run beside the container's own process, it writes back its input, and ends with that, as ``cat`` does.
    """

    exit_code: int | None = None
    output: str | None = ""
    heeds_term: bool = True
    exec_error: int = 0
    errors: str = ""
    echoes: bool = False

    @property
    def ends_at_once(self) -> int | None:
        """The exit code of a command that is over as soon as it has begun, else None."""
        return self.exec_error or self.exit_code


RUNS_ON = Program()
NOT_FOUND = Program(exec_error=127)
NOT_EXECUTABLE = Program(exec_error=126)

BUSYBOX: Mapping[str, Program] = {
    **dict.fromkeys(("sleep", "httpd", "nc", "tail", "top", "yes"), RUNS_ON),
    **dict.fromkeys(("sh", "/bin/sh", "cat"), Program(echoes=True)),
    "true": Program(exit_code=0),
    "false": Program(exit_code=1),
    "echo": Program(exit_code=0, output=None),
    "/etc/passwd": NOT_EXECUTABLE,
}
"""The commands of the images that the engine begins with; any other is not found."""

_SHELL = re.compile(r"(?:echo (?P<echo>[\w ]+?)(?P<error> *>&2)?)?(?:(?:^|; *)exit (?P<code>\d{1,3}))?")


@dataclass(frozen=True, slots=True)
class Image:
    """An image: ports that it exposes, its own command, and what its commands do.

    A command that isn't in ``programs`` does what ``other`` says.
    """

    exposed: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ("sleep", "infinity")
    size: int = 1_000_000
    created_at: float = 0.0
    programs: Mapping[str, Program] = field(default_factory=dict)
    other: Program = RUNS_ON
    http: int | None = 200
    """Status that the service inside answers with, None where it doesn't answer."""
    health: str | None = None
    """What its HEALTHCHECK says at the start; None where it has none."""

    def program(self, argv: tuple[str, ...]) -> Program:
        """What ``argv`` does; ``sh -c "[echo words[ >&2]][; exit n]"`` is understood."""
        shell = len(argv) == 3 and argv[0] in ("sh", "/bin/sh") and argv[1] == "-c" and argv[2]
        if shell and (match := _SHELL.fullmatch(shell)):
            said = f"{match['echo']}\n" if match["echo"] else ""
            code = int(match["code"] or 0)
            return Program(code, errors=said) if match["error"] else Program(code, said)
        program = self.programs.get(argv[0], self.other)
        if program.output is None:
            return Program(program.exit_code, " ".join(argv[1:]) + "\n", program.heeds_term)
        return program


class Images:
    """The images on the engine and those of its registry, by reference in full."""

    def __init__(self) -> None:
        self._present: dict[str, Image] = {}
        self._pullable: dict[str, Image] = {}

    def add(self, name: str, image: Image) -> None:
        """Put an image on the engine."""
        self._present[normalise(name)] = image

    def offer(self, name: str, image: Image) -> None:
        """Put an image into the registry."""
        self._pullable[normalise(name)] = image

    def discard(self, name: str) -> None:
        """Take an image off the engine; the registry keeps it."""
        self._present.pop(normalise(name), None)

    def all(self) -> Mapping[str, Image]:
        """Those on the engine, by familiar name: without what Docker Hub's names begin with."""
        found = {}
        for name, image in self._present.items():
            found[name.removeprefix("docker.io/").removeprefix("library/")] = image
        return found

    def present(self, name: str) -> bool:
        """Whether the engine has it."""
        return normalise(name) in self._present

    def get(self, name: str) -> Image:
        """The image on the engine. Raises ``ImageNotFound``, ``ImageReferenceInvalid``."""
        return self._found(self._present, name)

    def pull(self, name: str) -> None:
        """Copy it from the registry. Raises ``ImageNotFound``, ``ImageReferenceInvalid``."""
        image = self._found(self._pullable, name)
        self._present[normalise(name)] = image

    @staticmethod
    def _found(images: Mapping[str, Image], name: str) -> Image:
        image = images.get(normalise(name))
        if image is None:
            raise ImageNotFound(f"No such image: {name}", image=name)
        return image
