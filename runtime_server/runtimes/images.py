"""The engine's images as callers see them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol

from runtime_server.engine import stock
from runtime_server.engine.base import Engine, RegistryLogin
from runtime_server.engine.feeds import FeedEnded
from runtime_server.errors import AdminOnly, ImageInUse, ImageNotFound, Problem, TooManyStreams
from runtime_server.models import Image, ImageDeleted, ImageList, PullRequest, PullStatus, utc
from runtime_server.runtimes import policy_images
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.policy_rules import refusal
from runtime_server.runtimes.pulls import Pulls
from runtime_server.runtimes.waits import SlowLane
from runtime_server.settings import Settings

AT_ONCE = 1.0
"""Seconds within which a pull that fails is an ordinary answer: later the stream has begun."""


class Naming(Protocol):
    """What the names of images tell; see ``builds.names.Names``."""

    def visible(self, caller: Caller, image: str) -> bool:
        """Whether the caller may learn if that image is there."""

    def own(self, caller: Caller, image: str) -> bool:
        """Whether the image is one of the caller's builds."""


class Images:
    """Images of the engine.

    Args:
        settings: which images may be used.
        engine: has them.
        pulls: gets them.
        names: tells whose they are.
    """

    def __init__(self, settings: Settings, engine: Engine, pulls: Pulls, names: Naming) -> None:
        self._settings = settings
        self._engine = engine
        self._pulls = pulls
        self._names = names
        # A pull that its caller has left goes on until its next sign of life, in a thread all the same.
        self._lane = SlowLane(settings.streams, TooManyStreams)

    def list(self, caller: Caller) -> ImageList:
        """Those that the caller can start; an admin's are all, also those without a name.

        Raises:
            EngineUnreachable, EngineTimeout, EngineFailed: the engine doesn't say.
        """
        found = []
        for each in self._engine.list_images():
            names = [name for name in each.references if self._shown(caller, name)]
            if names or caller.admin:
                found.append(
                    Image(
                        image_id=each.image_id,
                        references=names,
                        size_bytes=each.size,
                        created_at=utc(each.created_at),
                    )
                )
        return ImageList(images=sorted(found, key=_age))

    def _shown(self, caller: Caller, name: str) -> bool:
        if caller.admin:
            return True
        try:
            return self._names.visible(caller, name) and self._allowed(name)
        except Problem:
            return False  # an engine's own way to write a name

    def _allowed(self, image: str) -> bool:
        return policy_images.allowed(image, self._settings.allowed_images)

    def pull(self, caller: Caller, request: PullRequest) -> PullFeed:
        """Have an image pulled once, together with all others who want it.

        Raises:
            PolicyRefused: it may not be used here.
            ImageReferenceInvalid, ImageNotFound, ImagePullFailed
            TooManyStreams: as many pulls as may are going on.
        """
        if not self._allowed(request.image):
            raise refusal("ALLOWED_IMAGES", "That image isn't among RUNTIME_SERVER_ALLOWED_IMAGES.")
        if not self._names.visible(caller, request.image):
            raise ImageNotFound("The registry has no such image.", image=request.image)
        auth = request.registry_auth
        login = RegistryLogin(auth.username, auth.password) if auth else None

        def work(progress: Callable[[stock.PullState], None]) -> int | None:
            self._pulls.pull(request.image, platform=request.platform, login=login, progress=progress, all_of_it=True)
            facts = self._engine.image_facts(request.image)
            return None if facts is None else facts.size

        return PullFeed(request.image, work, self._lane)

    def delete(self, caller: Caller, image: str) -> ImageDeleted:
        """Take a name off the engine, and with its last one the image.

        Admins can do that with all images, others with those that they have built.

        Raises:
            AdminOnly, ImageReferenceInvalid
            ImageInUse: a container is made of it.
        """
        if not caller.admin and not self._names.own(caller, image):
            raise AdminOnly("Only an admin may remove an image that isn't one of the caller's builds.")
        try:
            changed = self._engine.delete_image(image)
        except stock.ImageInUse:
            raise ImageInUse(
                "A container is made of the image, or it has other names than this id.", image=image
            ) from None
        message = "The image is removed." if changed else "There is no such image."
        return ImageDeleted(image=image, message=message, changed=changed)


Work = Callable[[Callable[[stock.PullState], None]], int | None]
"""A pull: is told how to tell how far it is, and returns the image's size."""


class _Left(Exception):
    """Nobody waits for the pull any more."""


class PullFeed:
    """How far a pull is, told by a thread of its own; see ``Feed``.

    Args:
        image: its reference.
        work: pulls, telling how far it is, and returns the image's size.
        lane: bounds the threads.

    Raises:
        TooManyStreams: all threads are taken.
        Problem: it failed at once.
    """

    def __init__(self, image: str, work: Work, lane: SlowLane) -> None:
        self._image = image
        self._work = work
        self._place = lane.place()
        self._told: queue.SimpleQueue[PullStatus | Exception] = queue.SimpleQueue()
        self._left = threading.Event()
        self._first: PullStatus | None = None
        self._said = stock.PullState("")
        self._place.__enter__()
        threading.Thread(target=self._pull, name="image-pull", daemon=True).start()
        try:
            self._first = self.receive(AT_ONCE)
        except BaseException:
            self.close()
            raise

    def _pull(self) -> None:
        try:
            size = self._work(self._tell)
            self._told.put(PullStatus(image=self._image, status="complete", size_bytes=size))
            self._told.put(FeedEnded("complete"))
        except Exception as error:
            self._told.put(error)
        finally:
            self._place.__exit__(None, None, None)

    def _tell(self, state: stock.PullState) -> None:
        """What has changed: of each layer, and of all of it."""
        if self._left.is_set():
            raise _Left
        before, self._said = self._said, state
        for each in state.layers:
            if each not in before.layers:
                self._told.put(_layer(self._image, each))
        if state.sentence != before.sentence:
            self._told.put(PullStatus(image=self._image, status="pulling", detail=state.sentence))

    def receive(self, timeout: float) -> PullStatus | None:
        """See ``Feed``."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            found = self._told.get(timeout=timeout) if timeout > 0 else self._told.get_nowait()
        except queue.Empty:
            return None
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """See ``Feed``. The pull ends with its next step, unless others wait for it."""
        self._left.set()


def _layer(image: str, layer: stock.PullLayer) -> PullStatus:
    return PullStatus(
        image=image,
        status="pulling",
        detail=layer.phase,
        layer=layer.layer,
        current_bytes=layer.current if layer.total else None,
        total_bytes=layer.total or None,
    )


def _age(image: Image) -> tuple[float, str]:
    return (-image.created_at.timestamp() if image.created_at else 0.0, image.image_id)
