"""The in-memory engine's files of containers."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from runtime_server.engine import users
from runtime_server.engine.files import FileEntry, Ids, NoAccess
from runtime_server.engine.memory_calls import MemoryCalls
from runtime_server.engine.memory_tree import Tree


class MemoryFiles(MemoryCalls):
    """Reads, writes, lists and deletes files. The Engine protocol's docstrings say what each method does."""

    def file_entry(self, container: str, path: str) -> FileEntry | None:
        """What is at the path."""
        with self._call("file_entry"):
            return self._tree(container).entry(path)

    def read_archive(self, container: str, path: str) -> io.BytesIO:
        """What is at the path as a tar."""
        with self._call("read_archive"):
            return io.BytesIO(self._tree(container).tar(path))

    def write_archive(self, container: str, folder: str, chunks: Iterable[bytes]) -> None:
        """Unpack a tar into a folder."""
        with self._call("write_archive"):
            self._tree(container).unpack(folder, chunks)

    def list_folder(self, container: str, path: str, most: int) -> tuple[Sequence[FileEntry], bool]:
        """What is in a folder."""
        with self._call("list_folder"):
            return self._tree(container).listed(path, most)

    def delete_path(self, container: str, path: str, *, recursive: bool) -> None:
        """Delete a file, a link or a folder."""
        with self._call("delete_path"):
            if not self._own(container).live:
                raise NoAccess
            self._tree(container).delete(path, recursive=recursive)

    def file_owner(self, container: str, user: str | None) -> Ids | None:
        """The ids of a user."""
        with self._call("file_owner"):
            wanted = (self._own(container).spec.user or "") if user is None else user
            if users.is_root(wanted) and ":" not in wanted:
                return 0, 0
            tree = self._tree(container)
            passwd, groups = (tree.read(path).decode() for path in ("/etc/passwd", "/etc/group"))
            return users.by_numbers(wanted) or users.by_files(wanted, passwd, groups)

    def _tree(self, container: str) -> Tree:
        found = self._own(container)
        trees = self._world.trees
        if found.container_id not in trees:
            trees[found.container_id] = Tree(self._world.clock, read_only=found.spec.read_only)
        return trees[found.container_id]
