"""The builder of the engine in memory: what it understands of a Dockerfile."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_server.engine.building import BuildHalted, BuildRefused, BuildSpec
from runtime_server.engine.memory import MemoryEngine
from runtime_server.engine.memory_build import MemoryBuilder
from tests.forms import archive


def build(engine: MemoryEngine, folder: Path, dockerfile: str, *, halted: bool = False, push: bool = False) -> str:
    (folder / "context").write_bytes(archive({"Dockerfile": dockerfile, "src/file": "x"}))
    said: list[bytes] = []
    spec = BuildSpec(folder / "context", ("made:1", "made:2"), push=push)
    MemoryBuilder(engine).build(spec, said.append, lambda: halted)
    return b"".join(said).decode()


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine("me")


def test_an_image_is_what_its_base_was_and_more(engine: MemoryEngine, tmp_path: Path) -> None:
    said = build(
        engine,
        tmp_path,
        "# a comment\nfrom busybox\nENV A=1 \\\n  B=2\nEXPOSE 8000 53/udp\nCOPY src /srv\nCOPY . /all\n"
        "COPY --from=other /x /y\nRUN --mount=type=cache,target=/c echo fine\nRUN sleep 0.01\nLABEL a=b\n",
    )
    assert said.endswith("naming to made:1\nnaming to made:2\n")
    made = engine.base_image("made:2")
    assert (made.exposed, made.environment) == (("8000/tcp", "53/udp"), {"A": "1", "B": "2"})
    assert made.programs == engine.base_image("busybox").programs
    assert engine.image_present("made:1")


@pytest.mark.parametrize(
    "dockerfile",
    ["", "RUN true\n", "FROM no/such\n", "FROM busybox\nRUN false\n", "FROM busybox\nRUN exit 3\n",
     "FROM busybox\nCOPY missing /\n", "FROM Upper\n"],
)  # fmt: skip
def test_what_fails(engine: MemoryEngine, tmp_path: Path, dockerfile: str) -> None:
    with pytest.raises(BuildRefused):
        build(engine, tmp_path, dockerfile)
    assert not engine.image_present("made:1")


@pytest.mark.parametrize("dockerfile", ["FROM scratch\n", "FROM busybox\nRUN sleep 1000\n"])
def test_it_can_be_halted(engine: MemoryEngine, tmp_path: Path, dockerfile: str) -> None:
    with pytest.raises(BuildHalted):
        build(engine, tmp_path, dockerfile, halted=True)


def test_a_pushed_image_can_be_pulled(engine: MemoryEngine, tmp_path: Path) -> None:
    build(engine, tmp_path, "FROM scratch\n", push=True)
    engine.remove_image("made:1")
    engine.pull("made:1")
