"""Whether a front's connection file is what the gateway wrote: it holds the key that all messages are signed with."""

from __future__ import annotations

import hashlib
import os
import stat

from remote_gpu.errors import GatewayUnavailable, NotAllowed
from remote_gpu.gateway import AttachmentInfo

__all__ = ["check_connection_file"]

_HINT = "Run the cell again: it attaches anew. If it happens again, somebody else writes in the folder of our sockets."


def check_connection_file(attachment: AttachmentInfo) -> None:
    """Raise `NotAllowed` when the file is another user's, open to others, or was changed; `GatewayUnavailable` when it is not there."""
    file = attachment.connection_file
    try:
        found, content = file.lstat(), file.read_bytes()
    except OSError as error:
        message = f"The connection file {file} cannot be read: {error.strerror}."
        raise GatewayUnavailable(message, hint="Remote sessions keep running; run the cell again.") from error
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise NotAllowed(f"The connection file {file} is not private to you, so it is not used.", hint=_HINT)
    if attachment.fingerprint and hashlib.sha256(content).hexdigest() != attachment.fingerprint:
        raise NotAllowed(f"The connection file {file} is not what the gateway wrote, so it is not used.", hint=_HINT)
