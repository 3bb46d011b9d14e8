"""What ``doctor`` looks at on the server's own machine. It changes nothing."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from runtime_server.cli.checks import Check, clock, fail, ok, skip, warn
from runtime_server.cli.output import decimal
from runtime_server.paths import NotPrivate

if TYPE_CHECKING:
    from runtime_server.engine.base import Network
    from runtime_server.engine.docker import DockerEngine
    from runtime_server.engine.docker_host import DockerHost
    from runtime_server.settings import Settings

LITTLE, NONE = 2_000_000_000, 200_000_000
"""Free bytes below which there is a warning, and below which it counts as failed."""
OLDEST_API = (1, 41)
"""Docker Engine 20.10's, the oldest that this is tested on."""


def check_host() -> Iterator[Check]:
    """Settings, state directory, engine, network, firewall and builds of the instance on this machine."""
    from pydantic import ValidationError

    from runtime_server.settings import Settings, explain

    try:
        settings = Settings()
    except ValidationError as error:
        yield fail("settings", " ".join(explain(error)), "Mend these variables; README lists them all.")
        return
    yield check_settings(settings)
    yield check_state(settings)
    yield check_disk("state: disk", _existing(settings.state_dir.expanduser().absolute()))
    yield from check_engine(settings)


def check_settings(settings: Settings) -> Check:
    """Whether they go together, and are safe."""
    from runtime_server.keys import KeyFile, KeyFileBroken
    from runtime_server.runtimes.urls import unserved
    from runtime_server.web.auth import KeyRing

    try:
        KeyRing.from_settings(settings)
        if settings.auth == "on":
            KeyFile(settings.keys_path).read()
    except (NotPrivate, KeyFileBroken, ValueError) as error:
        return fail("settings", str(error), "Mend RUNTIME_SERVER_API_KEYS or the key file.")
    if settings.auth == "off":
        return warn(
            "settings", "RUNTIME_SERVER_AUTH is off: whoever reaches the port controls the runtimes.", "Turn it on."
        )
    warning = unserved(settings)
    if warning is not None:
        return warn("settings", warning, "See RUNTIME_SERVER_ADVERTISE_HOST and RUNTIME_SERVER_PUBLISH_HOST.")
    return ok("settings", f"Listens on {settings.bind or f'{settings.host}:{settings.port}'}.")


def check_state(settings: Settings) -> Check:
    """Whether the state directory is this user's alone, and can be written."""
    from runtime_server.state import check

    directory = settings.state_dir.expanduser().absolute()
    try:
        check(settings)
    except NotPrivate as error:
        return fail("state", str(error), "Give the directory to the server's user alone.")
    except OSError as error:
        return fail("state", f"{directory}: {error.strerror}.", "Run this as the server's user.")
    there = _existing(directory)
    if not os.access(there, os.W_OK | os.X_OK):
        return fail("state", f"{there} can't be written.", "Choose another with RUNTIME_SERVER_STATE_DIR.")
    return ok("state", f"{directory}{'' if directory.exists() else ', made at the first start'}.")


def check_disk(name: str, folder: Path) -> Check:
    """Whether there is room."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return skip(name, f"{folder}: {error.strerror}.")
    detail = f"{decimal(free)} free at {folder}."
    advice = "Make room: runtime-server prune; docker system df shows what the engine holds."
    if free < NONE:
        return fail(name, detail, advice)
    return warn(name, detail, advice) if free < LITTLE else ok(name, detail)


def check_engine(settings: Settings) -> Iterator[Check]:
    """Whether the engine can be reached, and what hangs on it."""
    from runtime_server.engine.discovery import discover
    from runtime_server.engine.docker import DockerEngine
    from runtime_server.engine.docker_host import DockerHost
    from runtime_server.errors import Problem

    try:
        endpoint = discover(settings.engine)
    except Problem as problem:
        yield fail("engine: socket", problem.detail, "Look at DOCKER_HOST, DOCKER_CONTEXT and RUNTIME_SERVER_ENGINE.")
        return
    yield check_socket(endpoint.address, endpoint.socket)
    timeout = min(settings.engine_timeout, 10.0)
    instance = _instance(settings)
    engine = DockerEngine(instance or "doctor", address=settings.engine, timeout=timeout)
    host = DockerHost(instance or "doctor", address=settings.engine, timeout=timeout)
    try:
        yield check_version(engine)
        yield from check_machine(host, local=endpoint.socket is not None)
        network = engine.find_network(settings.network) if settings.network else None
        yield check_network(settings, network)
        yield check_firewall(settings, instance, network)
        yield from check_builds(settings, engine)
    except Problem as problem:
        advice = "Start it (systemctl start docker), or name another by RUNTIME_SERVER_ENGINE or DOCKER_HOST."
        yield fail("engine", f"{problem.detail} Tried {endpoint.address}.", advice)
        for name in ("network", "firewall"):
            yield skip(name, "The engine doesn't answer.")
    finally:
        host.close()
        engine.close()


def check_socket(address: str, path: str | None) -> Check:
    """Whether this user may use the engine's socket."""
    if path is None:
        return ok("engine: socket", f"The engine is at {address}.")
    if not Path(path).exists():
        return fail("engine: socket", f"There is no {path}.", "Install or start the engine: systemctl start docker.")
    if not os.access(path, os.R_OK | os.W_OK):
        advice = (
            "Put the server's user into the socket's group (usermod -aG docker USER), which makes it as good as root."
        )
        return fail("engine: socket", f"This user may not use {path}.", advice)
    return ok("engine: socket", f"{path} can be used.")


def check_version(engine: DockerEngine) -> Check:
    """Which engine it is.

    Raises:
        Problem: it doesn't answer.
    """
    found = engine.version()
    detail = f"{found.name} {found.version}, API {found.api_version}."
    digits = tuple(int(part) for part in found.api_version.split(".") if part.isdecimal())
    if digits < OLDEST_API:
        return warn(
            "engine", detail, "It is older than Docker Engine 20.10, on which nobody has tried this: upgrade."
        )
    return ok("engine", detail)


def check_machine(host: DockerHost, *, local: bool) -> Iterator[Check]:
    """The clock and the disk of the machine that the engine is on, where it tells of them."""
    from runtime_server.errors import Problem

    try:
        facts, now = host.facts(), time.time()
    except Problem as problem:  # a proxy may keep this to itself
        yield skip("engine: clock", problem.detail)
        return
    if facts.time is not None:
        yield clock("engine: clock", "The engine's", facts.time.timestamp() - now)
    if facts.root is not None and local and facts.root.exists():
        yield check_disk("engine: disk", facts.root)


def check_network(settings: Settings, network: Network | None) -> Check:
    """Whether runtimes are kept from one another."""
    if not settings.network:
        detail = (
            "RUNTIME_SERVER_NETWORK is empty: runtimes are on the engine's default network, and reach one another."
        )
        return warn("network", detail, "Leave it at runtime-server.")
    if network is None:
        return ok("network", f"{settings.network} is made at the first start.")
    if not network.ours:
        detail = f"{network.name} isn't the server's own: nobody keeps runtimes from one another there."
        return warn("network", detail, "Name another by RUNTIME_SERVER_NETWORK, and the server makes it.")
    return ok("network", f"{network.name} keeps runtimes from one another (bridge {network.bridge}).")


def check_firewall(settings: Settings, instance: str | None, network: Network | None) -> Check:
    """Whether runtimes are kept from the host's services and cloud metadata."""
    from runtime_server.network.firewall import Firewall, FirewallFailed, here, rules_of

    if not settings.network:
        return skip("firewall", "There are rules for a network of the server's own only.")
    if network is not None and not here(network.bridge):
        detail = "The engine's network isn't this machine's: it is rootless, remote, or this is in a container."
        return _unfit(settings, detail)
    bridge = network.bridge if network is not None else None
    rules = rules_of(instance or "doctor", settings.host_services, settings.egress, bridge)
    try:
        holds = Firewall(Path(os.devnull)).holds(rules)
    except (FirewallFailed, OSError) as failed:
        # Who may not look would be told to set rules that may be there already.
        apply = f"runtime-server firewall apply --state-dir {settings.state_dir}"
        advice = "" if os.geteuid() == 0 else f"Run as root {apply}, which sets those that are missing."
        return _unfit(settings, f"The rules can't be looked at: {failed}", advice)
    if holds:
        return ok("firewall", "Runtimes are kept from the host's services and cloud metadata.")
    if network is None and settings.firewall != "off":
        return ok("firewall", "The rules can be set, and are at the first start.")
    advice = "Start the server, which sets them, or run as root what runtime-server firewall print prints."
    return _unfit(settings, "The rules aren't set: runtimes reach the host's services and cloud metadata.", advice)


def _unfit(settings: Settings, detail: str, advice: str = "") -> Check:
    advice = advice or "Run as root what runtime-server firewall print prints."
    if settings.egress == "none" and settings.firewall != "off":
        return fail("firewall", f"{detail} RUNTIME_SERVER_EGRESS=none needs them.", advice)
    return warn("firewall", detail, advice)


def check_builds(settings: Settings, engine: DockerEngine) -> Iterator[Check]:
    """Where images are to be built: whether they can."""
    from runtime_server.engine.docker_build import DockerBuilder
    from runtime_server.errors import BuilderUnavailable

    if settings.builds == "off" or not settings.registry_prefix:
        return
    try:
        DockerBuilder(settings.engine, engine.version, settings.docker_cli).check()
    except BuilderUnavailable as problem:
        yield fail("builds", problem.detail, "Install the docker command with buildx, or RUNTIME_SERVER_BUILDS=off.")
        return
    yield ok("builds", f"Images are built below {settings.registry_prefix}.")


def _instance(settings: Settings) -> str | None:
    """The instance's id, where there is one already."""
    try:
        return (settings.state_dir.expanduser().absolute() / "instance").read_text().strip() or None
    except OSError:
        return None


def _existing(path: Path) -> Path:
    """The path, or the next folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
