"""What all calls of the engine in memory share: the world, and the ways to make them misbehave."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runtime_server.engine.memory_containers import Container
from runtime_server.engine.memory_world import World
from runtime_server.errors import EngineUnreachable

METHODS = (
    "ping", "version", "image_present", "image_facts", "pull", "create", "start", "inspect", "pause", "resume",
    "stop", "remove", "list", "logs", "log_entries", "exec", "exec_state", "sample", "set_limits",
    "http_status", "command_status", "events",
    "file_entry", "read_archive", "write_archive", "list_folder", "delete_path", "file_owner",
    "list_images", "delete_image", "build_cache", "prune_build_cache",
    "ensure_network", "find_network", "remove_network",
    "http_json", "connections", "commands",
    "ensure_volume", "find_volume", "list_volumes", "volume_sizes", "remove_volume", "give_folder",
)  # fmt: skip
"""The engine's calls: what hooks can be set on, and what is counted."""


@dataclass(slots=True)
class _Hook:
    method: str
    action: Callable[[], None]
    after: bool
    times: int | None


class MemoryCalls:
    """Calls on a world that engines in memory share.

    Args:
        instance: whose containers are seen and touched.
        world: containers, images and all the rest.

    Attributes:
        calls: how often each method was called, failed calls included.
    """

    def __init__(self, instance: str, world: World) -> None:
        self.instance = instance
        self.calls: Counter[str] = Counter()
        self._world = world
        self._hooks: list[_Hook] = []

    def fail_next(self, method: str, exception: Exception, after: bool = False) -> None:
        """Let the next call of ``method`` raise; ``after`` it has acted, as when an answer is lost."""

        def fail() -> None:
            raise exception

        self.hook(method, fail, after=after, times=1)

    def delay(self, method: str, seconds: float) -> None:
        """Let each call of ``method`` wait for ``seconds`` before it acts, without holding up other calls."""
        self.hook(method, lambda: time.sleep(seconds))

    def hook(self, method: str, action: Callable[[], None], *, after: bool = False, times: int | None = None) -> None:
        """Run ``action`` in each of the next ``times`` calls of ``method`` (None: in all).

        It runs in the caller's thread, before the call acts or ``after`` it did, without the engine's lock: it may
        wait, raise, or call the engine. With ``after`` it runs only where the call succeeded.
        """
        if method not in METHODS:
            raise ValueError(f"{method!r} is none of {', '.join(METHODS)}")
        with self._world.lock:
            self._hooks.append(_Hook(method, action, after, times))

    def clear_hooks(self) -> None:
        """Forget all hooks, failures and delays."""
        with self._world.lock:
            self._hooks.clear()

    def _own(self, container: str) -> Container:
        return self._world.find(container, self.instance)

    @contextmanager
    def _call(self, method: str) -> Iterator[None]:
        with self._world.lock:
            self.calls[method] += 1
        self._run_hooks(method, after=False)
        with self._world.lock:
            if self._world.away:
                raise EngineUnreachable()
            yield
        self._run_hooks(method, after=True)

    def _run_hooks(self, method: str, *, after: bool) -> None:
        with self._world.lock:
            due = [each for each in self._hooks if (each.method, each.after) == (method, after)]
        for each in due:
            with self._world.lock:
                if each.times == 0:
                    continue
                if each.times is not None:
                    each.times -= 1
            each.action()
