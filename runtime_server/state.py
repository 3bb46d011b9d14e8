"""The state directory: database, instance id, generated API key, locks and marks."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from runtime_server.keys import KeyFile, KeyFileBroken
from runtime_server.paths import API_KEY_FILE, NotPrivate, check_private
from runtime_server.settings import Settings
from runtime_server.store.migrate import migrate


@dataclass(frozen=True, slots=True)
class State:
    """What ``prepare`` found or made.

    Attributes:
        directory: the state directory, mode 0700.
        instance: this instance's id, stamped on every container.
        key_file: where a generated API key lies; None where keys are configured or authentication is off.
    """

    directory: Path
    instance: str
    key_file: Path | None

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.directory / "state.db"

    @property
    def holders(self) -> Path:
        """The folder of files that living processes keep locked."""
        return self.directory / "holders"

    @property
    def locks(self) -> Path:
        """The folder of runtimes' lock files."""
        return self.directory / "locks"

    @property
    def renewals(self) -> Path:
        """The folder of renewed ends of life."""
        return self.directory / "renewals"

    @property
    def changes(self) -> Path:
        """The folder of what was changed of runtimes."""
        return self.directory / "changes"

    @property
    def lookups(self) -> Path:
        """The folder of notes on what nginx keeps."""
        return self.directory / "lookups"

    @property
    def rates(self) -> Path:
        """The folder of owners' token buckets."""
        return self.directory / "rates"

    @property
    def builds(self) -> Path:
        """The folder of builds' contexts and logs."""
        return self.directory / "builds"

    @property
    def leader(self) -> Path:
        """The file whose lock makes a process the reconciler."""
        return self.directory / "reconciler.lock"

    @property
    def beat(self) -> Path:
        """The file that the reconciler touches while it follows the engine."""
        return self.directory / "reconciler.beat"

    @property
    def rebuilding(self) -> Path:
        """The mark that the database was lost, and not every container has its record again."""
        return self.directory / "rebuilding"

    @property
    def network(self) -> Path:
        """The file that tells workers which addresses are runtimes'."""
        return self.directory / "network.json"

    @property
    def firewall(self) -> Path:
        """The file whose lock lets a process change firewall rules."""
        return self.directory / "firewall.lock"

    @property
    def draining(self) -> Path:
        """The mark that new starts are refused."""
        return self.directory / "draining"


def locate(settings: Settings) -> State:
    """The state as it lies there, making only what is missing of directory, instance id and key (no database).

    Raises:
        OSError: the directory can't be made or written.
    """
    directory = settings.state_dir.expanduser().absolute()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(directory / "prepare.lock"):
        for folder in ("builds", "changes", "holders", "locks", "lookups", "rates", "renewals"):
            (directory / folder).mkdir(mode=0o700, exist_ok=True)
        instance = _once(directory / "instance", lambda: secrets.token_hex(8))
        key_file = None
        if settings.auth == "on" and not settings.api_keys:
            key_file = directory / API_KEY_FILE
            if not key_file.exists() and not _has_keys(settings):
                _once(key_file, lambda: secrets.token_urlsafe(32))
    return State(directory=directory, instance=instance, key_file=key_file)


def _has_keys(settings: Settings) -> bool:
    try:
        return bool(KeyFile(settings.keys_path).read())
    except (NotPrivate, KeyFileBroken):
        return True  # whatever they are; who starts the server is told of it


def prepare(settings: Settings) -> State:
    """Make everything that workers need, the database's schema included. Safe to run by several at once.

    Raises:
        OSError: the directory can't be made or written.
        NotPrivate: other users can reach it.
        SchemaTooNew: a newer server made the database.
    """
    check(settings)
    state = locate(settings)
    with _locked(state.directory / "prepare.lock"):
        had_database = state.directory / "had-database"
        if had_database.exists() and not state.database.exists():
            state.rebuilding.touch(mode=0o600)
        migrate(state.database)
        had_database.touch(mode=0o600)
    return state


def prepare_gateway(settings: Settings) -> None:
    """Make the folder that nginx shares, and the one in it that both write to.

    Raises:
        OSError: it can't be made.
    """
    for folder, mode in ((settings.gateway_dir, 0o750), (settings.gateway_lookups, 0o770)):
        folder.mkdir(parents=True, exist_ok=True)
        # Another's, who has made it as nginx and the server need it, or nginx's by now.
        if folder.stat().st_uid == os.geteuid():
            with suppress(LookupError, PermissionError):
                shutil.chown(folder, group=settings.nginx_group)
            folder.chmod(mode)


def check(settings: Settings) -> None:
    """See that nobody but this user can reach the state directory and what is in it, if it is there.

    Raises:
        NotPrivate: somebody can.
    """
    _check(settings.state_dir.expanduser().absolute())


def _check(path: Path) -> None:
    with suppress(FileNotFoundError):  # files come and go meanwhile
        found = path.stat()
        check_private(path, found)
        if stat.S_ISDIR(found.st_mode):
            for each in path.iterdir():
                _check(each)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _once(path: Path, make: Callable[[], str]) -> str:
    """The file's one line; made whole under another name first, so that a crash leaves no half of it."""
    try:
        found = path.read_text().strip()
    except FileNotFoundError:
        found = ""
    if found:
        return found
    value = make()
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(value + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return value
