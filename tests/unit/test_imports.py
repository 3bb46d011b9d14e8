"""Imports point one way, and the client carries nothing of the server."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import runtime_server

PACKAGE = Path(runtime_server.__file__).parent

EDGE = frozenset({"wsgi", "cli", "gunicorn_conf", "worker"})
"""Where I/O begins: two ways to serve the same, which may meet."""

# errors, models <- engine, store <- runtimes <- resources <- api <- wsgi, cli
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "exchange", "models", "paths", "_version"}),
    frozenset({"settings", "logs", "metrics"}),
    frozenset({"engine", "keys", "store"}),
    frozenset({"network", "nginx"}),
    frozenset({"runtimes"}),
    frozenset({"builds"}),
    frozenset({"state"}),
    frozenset({"web"}),
    frozenset({"resources"}),
    frozenset({"api"}),
    frozenset({"service"}),
    frozenset({"upkeep"}),
    EDGE,
    frozenset({"__main__", "testing"}),
)
CLIENT_SIDE = {"client", "__init__"}
"""The client, and the package itself, whose public names are the client's."""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The first name below the package: a folder or a module of its own."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(path: Path) -> Iterator[str]:
    """The package's modules that a file imports anywhere, late and type-checking imports included."""
    module = module_name(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            climbed = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*climbed, *([node.module] if node.module else [])])
            # "from runtime_server import errors" names a room, "from runtime_server.errors import X" is in one.
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "runtime_server" else [base]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "runtime_server")


def is_room(name: str) -> bool:
    return name in CLIENT_SIDE or any(name in layer for layer in LAYERS)


def depth(name: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if name in layer)


def allowed(importer: str, target: str) -> bool:
    if importer == target or {importer, target} <= EDGE:
        return True
    if importer in CLIENT_SIDE:
        return target in LAYERS[0] or (importer, target) == ("__init__", "client")
    if target in CLIENT_SIDE:
        return importer in {"cli", "__main__", "testing"}
    return depth(target) < depth(importer)


def test_every_room_has_its_layer() -> None:
    rooms = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    assert rooms - CLIENT_SIDE <= frozenset().union(*LAYERS)


def test_imports_point_one_way() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        importer = room(module_name(path))
        for module in imported(path):
            target = room(module)
            if not is_room(target):
                target = "__init__"
            if not allowed(importer, target):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {module}")
    assert wrong == []


@pytest.mark.parametrize("module", ["runtime_server", "runtime_server.client", "runtime_server.errors"])
def test_the_client_loads_nothing_of_the_server(module: str) -> None:
    code = f"import {module}, sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "runtime_server" in loaded
    assert loaded & {"falcon", "docker", "sqlalchemy", "alembic", "gunicorn", "structlog", "click"} == set()
