"""Blobs: immutable bytes addressed by their SHA-256 digest, in a private folder of this node."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from remote_gpu.errors import NotWritable, UsageProblem

__all__ = ["BlobStore", "digest_of"]

_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest_of(data: bytes | memoryview) -> str:
    """The address of `data`: its SHA-256 digest in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


class BlobStore:
    """The blobs in `folder`. Safe for several processes at once: a blob appears complete or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, digest: str) -> Path:
        """Where the blob of that digest lies (or would lie). Raises `UsageProblem` for what is no digest."""
        if not _DIGEST.fullmatch(digest):
            message = f"{digest[:80]!r} is not the address of a blob."
            raise UsageProblem(message)
        return self._folder / digest

    def has(self, digest: str) -> bool:
        """Whether the blob is here; marks it as used just now."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def put(self, data: bytes | memoryview) -> str:
        """Keep `data`; returns its address. Raises `NotWritable` when the disk refuses."""
        digest = digest_of(data)
        if self.has(digest):
            return digest
        temporary = self._folder / f".{digest[:16]}.{os.getpid()}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            temporary.replace(self.path(digest))
        except OSError as error:
            temporary.unlink(missing_ok=True)
            message = f"Cannot keep {len(data)} bytes in {self._folder}: {error.strerror}."
            raise NotWritable(message, hint="Free some space on the node.") from error
        return digest

    def drop_to(self, limit: int) -> None:
        """Remove the blobs that were not used for the longest time until at most `limit` bytes are left."""
        found = sorted(
            ((entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in os.scandir(self._folder)),
            reverse=True,
        )
        total = 0
        for _, size, path in found:
            total += size
            if total > limit:
                Path(path).unlink(missing_ok=True)
