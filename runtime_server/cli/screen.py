"""This terminal as a runtime's: keys go there as they are, what comes back is shown, its size follows."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime_server.client.terminal import Terminal

CHUNK = 65536


def size(descriptor: int) -> os.terminal_size | None:
    """A terminal's size; None where it has none."""
    with contextlib.suppress(OSError):
        found = os.get_terminal_size(descriptor)
        return found if found.lines and found.columns else None
    return None


def attach(terminal: Terminal, source: int, target: int) -> int | None:
    """Connect this terminal and a runtime's until the command there ends, and return its exit code.

    Args:
        terminal: the runtime's.
        source: the descriptor of this one that is read; in raw mode meanwhile, so that Ctrl-C is the command's.
        target: the descriptor that is written to.

    Raises:
        ServerUnreachable: the connection was lost.
    """
    with _raw(source), _resized() as changed:
        while _show(terminal, target):
            ready = select.select([source, terminal.fileno(), changed], [], [])[0]
            if changed in ready:
                os.read(changed, CHUNK)
                now = size(source)
                if now is not None:
                    terminal.resize(now.lines, now.columns)
            if source in ready:
                typed = _read(source)
                if not typed:
                    return None  # this terminal has gone
                terminal.send(typed)
    return terminal.exit_code


def _read(source: int) -> bytes:
    try:
        return os.read(source, CHUNK)
    except OSError:  # a terminal whose other end was closed
        return b""


def _show(terminal: Terminal, target: int) -> bool:
    """Show what has come; False at its end."""
    while (data := terminal.receive(0)) is not None:
        if not data:
            return False
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
    return True


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Keys as they are, until the end, however it comes."""
    before = termios.tcgetattr(descriptor)
    handlers = {each: signal.signal(each, _leave) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        # Not flushing, which would lose what has been typed ahead.
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for each, handler in handlers.items():
            signal.signal(each, handler)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _resized() -> Iterator[int]:
    """A descriptor that can be read once the terminal's size has changed."""
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def note(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writable, b"\0")

    before = signal.signal(signal.SIGWINCH, note)
    try:
        yield readable
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(readable)
        os.close(writable)
