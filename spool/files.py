"""Every file operation of the spool, one small method each, so that a test can make any of them fail or be the last.

All raise OSError.  Paths are absolute.  Files are made for the mail owner alone (0600); when root works on a spool
that belongs to somebody else, ``owner`` makes what it creates belong to them.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator, Sequence

_MOST_BUFFERS = 512
"""Fewer than IOV_MAX, which is 1024 everywhere."""

_COPY_BLOCK = 1 << 20

_GET_FLAGS, _SET_FLAGS, _TOP_FOLDER = 0x80086601, 0x40086602, 0x00020000
"""ioctl_iflags(2): FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_TOPDIR_FL."""


class Files:
    """The real thing."""

    def __init__(self, owner: tuple[int, int] | None = None) -> None:
        self.owner = owner

    def create(self, path: str) -> int:
        """A descriptor to write to a file that is new."""
        return self._owned(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))

    def append(self, path: str) -> int:
        """A descriptor to write at the end of a file, which is made if need be."""
        return self._owned(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))

    def open(self, path: str) -> int:
        """A descriptor to read from.  Does not wait for the other end of a FIFO that somebody put there."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)

    def write(self, descriptor: int, blocks: Sequence[bytes]) -> None:
        """Write all blocks."""
        if len(blocks) > _MOST_BUFFERS:
            blocks = [b"".join(blocks)]
        done = os.writev(descriptor, blocks)
        left = sum(map(len, blocks)) - done
        if left:
            rest = memoryview(b"".join(blocks))
            while left:
                left -= os.write(descriptor, rest[len(rest) - left :])

    def write_at(self, descriptor: int, data: bytes, position: int) -> None:
        while data:
            done = os.pwrite(descriptor, data, position)
            data, position = data[done:], position + done

    def copy(self, source: int, position: int, count: int, target: int) -> None:
        """Append ``count`` bytes of one file to another."""
        while count:
            block = os.pread(source, min(count, _COPY_BLOCK), position)
            if not block:
                raise OSError(f"file ended {count} bytes too early")
            self.write(target, [block])
            position, count = position + len(block), count - len(block)

    def read(self, descriptor: int, count: int, position: int) -> bytes:
        """Up to ``count`` bytes; fewer only at the end of the file."""
        block = os.pread(descriptor, count, position)
        if 0 < len(block) < count:
            parts = [block]
            while block and (count := count - len(block)) > 0:
                position += len(block)
                block = os.pread(descriptor, count, position)
                parts.append(block)
            return b"".join(parts)
        return block

    def status(self, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor)

    def status_of(self, path: str) -> os.stat_result:
        return os.lstat(path)

    def start_sync(self, descriptor: int) -> None:
        """Have what was written on its way to the disk, without waiting (posix_fadvise(2) says so of DONTNEED)."""
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def fdatasync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def fsync_dir(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def scan(self, path: str) -> Iterator[str]:
        """The names in a folder, in no order, without holding them all."""
        with os.scandir(path) as entries:
            for entry in entries:
                yield entry.name

    def make_dir(self, path: str) -> None:
        """Make a folder for its owner alone, if it is not there."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return
        if self.owner is not None and os.geteuid() != self.owner[0]:
            os.chown(path, *self.owner, follow_symlinks=False)

    def spread_folders(self, path: str) -> None:
        """Have the folders that will be made in this one placed apart on the disk (``chattr +T``), where the file
        system knows of such a thing: files that are made in them then do not compete for the same group of inodes."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            (flags,) = struct.unpack("=q", fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8)))
            fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("=q", flags | _TOP_FOLDER))
        except OSError:
            pass  # another file system, or not ours
        finally:
            os.close(descriptor)

    def free_bytes(self, path: str) -> int:
        """What is free for the likes of us on the file system."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    def _owned(self, descriptor: int) -> int:
        if self.owner is not None and os.geteuid() != self.owner[0]:
            try:
                os.fchown(descriptor, *self.owner)
            except OSError:
                os.close(descriptor)
                raise
        return descriptor
