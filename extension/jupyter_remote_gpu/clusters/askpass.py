"""The program that ssh runs for each question (SSH_ASKPASS): hands it to the gateway, and the answer back. Run as a script, by path.

JRG_ASKPASS says which login asks and where the gateway's socket is. Without an answer it ends with status 1, and ssh gives up.
"""

import json
import os
import socket
import sys


def main() -> int:
    """Ask and wait; returns an exit status."""
    key, _, path = os.environ.get("JRG_ASKPASS", "").partition(" ")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.connect(path)
            question = {"key": key, "text": " ".join(sys.argv[1:]), "hint": os.environ.get("SSH_ASKPASS_PROMPT", "")}
            peer.sendall(json.dumps(question).encode() + b"\n")
            answer = json.loads(peer.makefile("rb").readline() or b"{}").get("answer")
    except (OSError, ValueError):
        return 1
    if answer is None:
        return 1
    sys.stdout.write(f"{answer}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
