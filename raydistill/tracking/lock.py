"""A lock between processes that a killed process never keeps."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["FileLock", "waiting_for"]


class FileLock:
    """Exclusive while held. Where the file system knows no locks, everybody gets it.

    Args:
        path: A file to lock; made when missing, and left behind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def acquire(self, *, wait: bool = False) -> bool:
        """Takes the lock.

        Args:
            wait: Until it is free, instead of giving up at once.

        Returns:
            Whether it is held now.
        """
        try:
            import fcntl
        except ImportError:  # Windows; runs there are for trying things out, one at a time
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            return False
        except OSError:  # some network file systems
            file.close()
            return True
        self._file = file
        return True

    def release(self) -> None:
        """Lets go; closing the file is what unlocks."""
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def waiting_for(path: Path) -> Iterator[None]:
    """Holds the lock at ``path`` for a block, after waiting for it."""
    lock = FileLock(path)
    lock.acquire(wait=True)
    try:
        yield
    finally:
        lock.release()
