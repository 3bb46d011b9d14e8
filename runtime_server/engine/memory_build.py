"""A Builder for the engine in memory: it reads the Dockerfile, and pretends to run it."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tarfile
import time
from collections.abc import Callable, Iterator

from runtime_server.engine.building import BuildHalted, BuildRefused, BuildSpec
from runtime_server.engine.memory import MemoryEngine
from runtime_server.engine.memory_images import Image
from runtime_server.errors import ImageNotFound, ImageReferenceInvalid

LOOK = 0.01
"""Seconds between two questions whether the build is to end."""

_SLEEP = re.compile(r"sleep (\d+(?:\.\d+)?)")


class MemoryBuilder:
    """Builds images in memory: ``FROM``, ``ENV``, ``EXPOSE``, ``COPY``, ``ADD`` and ``RUN`` are understood.

    ``RUN`` fails for commands that fail in the base image (``false``, ``exit 3``), ``RUN sleep 60`` takes a minute,
    and all else takes no time; any other instruction is passed over.

    Args:
        engine: gets the images.

    Attributes:
        specs: what was built, failed builds included.
    """

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine
        self.specs: list[BuildSpec] = []

    def check(self) -> None:
        """See ``Builder``."""

    def build(self, spec: BuildSpec, log: Callable[[bytes], None], halted: Callable[[], bool]) -> None:
        """See ``Builder``."""
        self.specs.append(spec)
        with tarfile.open(spec.context, "r:gz") as tar:
            names = {each.name.removeprefix("./") for each in tar}
            dockerfile = _dockerfile(tar)
        image: Image | None = None
        for number, (word, rest) in enumerate(_instructions(dockerfile), start=1):
            log(f"#{number} {word} {rest}\n".encode())
            if word == "FROM":
                image = self._base(rest.split()[0])
            elif image is None:
                raise BuildRefused("The Dockerfile must begin with FROM.")
            else:
                image = _step(image, word, rest, names, halted)
        if image is None:
            raise BuildRefused("The Dockerfile must begin with FROM.")
        if halted():
            raise BuildHalted
        for tag in spec.tags:
            self._engine.put_image(tag, image, pullable=spec.push)
            log(f"naming to {tag}\n".encode())

    def _base(self, name: str) -> Image:
        if name == "scratch":
            return Image()
        try:
            return self._engine.base_image(name)
        except (ImageNotFound, ImageReferenceInvalid) as problem:
            raise BuildRefused(problem.detail) from None


def _dockerfile(tar: tarfile.TarFile) -> str:
    for name in ("Dockerfile", "./Dockerfile"):
        try:
            file = tar.extractfile(name)
        except KeyError:
            continue
        if file is not None:
            return file.read().decode("utf-8", "replace")
    raise BuildRefused("The context has no Dockerfile.")


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", text)
    for line in joined.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def _step(image: Image, word: str, rest: str, names: set[str], halted: Callable[[], bool]) -> Image:
    if word == "RUN":
        _run(image, re.sub(r"^(--\S+\s+)*", "", rest), halted)
    elif word in {"COPY", "ADD"} and "--from" not in rest:
        for source in [each for each in shlex.split(rest) if not each.startswith("--")][:-1]:
            path = source.strip("/").removeprefix("./")
            if path not in {"", "."} and not any(each == path or each.startswith(f"{path}/") for each in names):
                raise BuildRefused(f"{source} is not in the context.")
    elif word == "ENV":
        added = dict(each.partition("=")[::2] for each in shlex.split(rest))
        return dataclasses.replace(image, environment={**image.environment, **added})
    elif word == "EXPOSE":
        ports = tuple(each if "/" in each else f"{each}/tcp" for each in rest.split())
        return dataclasses.replace(image, exposed=(*image.exposed, *ports))
    return image


def _run(image: Image, command: str, halted: Callable[[], bool]) -> None:
    sleep = _SLEEP.fullmatch(command)
    ends = time.monotonic() + (float(sleep[1]) if sleep else 0.0)
    while True:
        if halted():
            raise BuildHalted
        if time.monotonic() >= ends:
            break
        time.sleep(LOOK)
    program = image.program(("sh", "-c", command))
    if program.exit_code is None:
        program = image.programs.get(command.split(maxsplit=1)[0] if command else "", program)
    code = program.exec_error or program.exit_code
    if code:
        raise BuildRefused(f"{command}: exit status {code}.")
