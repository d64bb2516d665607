"""Files that others read while they change: seen whole, or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CHUNK_BYTES = 1 << 22


def write_atomically(path: Path, text: str) -> None:
    """Replace the content of `path`: its readers see the old text or the new, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync(path.parent)


def copy_folder(source: Path, target: Path, *, leave_out: tuple[str, ...] = ()) -> None:
    """Copy a folder, without what matches the patterns `leave_out`, to a new place; holes stay holes."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*leave_out), copy_function=copy_sparse)


def copy_sparse(source: str, target: str) -> None:
    """Copy what a file holds and skip its holes: of 168 MB of index at 20,000 products, 127 are holes."""
    with open(source, "rb") as reader, open(target, "wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        end = 0
        while (start := _find_data(reader.fileno(), end)) is not None:
            end = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            reader.seek(start)
            writer.seek(start)
            while chunk := reader.read(min(CHUNK_BYTES, end - reader.tell())):
                writer.write(chunk)


def _find_data(descriptor: int, start: int) -> int | None:
    try:
        return os.lseek(descriptor, start, os.SEEK_DATA)
    except OSError:  # ENXIO: no data up to the end of the file
        return None


def sync_folder(folder: Path) -> None:
    """Return when all files under `folder` are on the disk."""
    for path in [folder, *folder.rglob("*")]:
        with suppress(FileNotFoundError):  # what an engine that opens the folder just now used in passing
            _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LockHeldError(Exception):
    """Another process holds the lock; the message names it."""


@contextmanager
def hold_lock(path: Path, *, is_waiting: bool) -> Iterator[None]:
    """Hold an exclusive lock until the block, or the process, ends.

    Raises LockHeldError if another process has it and `is_waiting` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            raise LockHeldError(f"process {file.read().strip() or 'unknown'}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
