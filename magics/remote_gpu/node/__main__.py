"""The command line of the node's half: ``python -m remote_gpu.node VERB``.

====================  ==========================================================================================
``start``             start the session described by JSON on stdin, return when it listens
``run [FILE]``        the same in the foreground, until the session is over (for batch scripts); the JSON may lie in a private file
``attach SESSION``    carry a gateway's stream between stdin/stdout and the session; a second word is how many seconds to wait for it
``data SESSION``      carry arrays and files between stdin/stdout and the session; a second word is the folder of a relay
``data-relay S C…``   the same on a login node: run the command C, which is a ``data SESSION``, and hand over what is large in the folder S
``status SESSION``    ask a session how it is
``list``              all sessions of this user on this machine
``stop SESSION``      end a session and remove all that it left
``gpus``              this machine's GPUs
``agent``             run a gateway's commands, which come as JSON on stdin, until it ends
``zygote [stop]``     have a warm process ready for the next start (JSON on stdin, as for start), or end all
====================  ==========================================================================================

Every verb but ``attach``, ``data``, ``data-relay`` and ``agent`` prints one line, ``JRG {json}``, whatever a login shell printed before; exit 0 when it says "ok".
"""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run one verb; exits with 0 (fine), 1 (a problem, told as JSON), 2 (usage) or 3 (`attach`: no such session)."""
    words = sys.argv[1:] if arguments is None else arguments
    given = None
    if sys.version_info >= (3, 10) and words[:1] == ["start"]:
        from remote_gpu.node import quick

        given = sys.stdin.buffer.read()
        answer = quick.start(given, _bundle())
        if answer is not None:
            sys.stdout.buffer.write(b"JRG " + answer)
            sys.stdout.flush()
            os._exit(0 if answer.startswith(b'{"ok": true') else 1)  # nothing is left to be put in order, and somebody waits
    if sys.version_info >= (3, 10) and words[:1] == ["attach"] and len(words) > 1:
        from remote_gpu.node import quick

        if quick.attach(words[1], float(words[2]) if len(words) > 2 else 0.0):  # noqa: PLR2004  verb, session, seconds
            sys.exit(0)
    if sys.version_info >= (3, 10) and words[:1] == ["agent"]:
        from remote_gpu.node import agent

        sys.exit(agent.main(_bundle()))
    if sys.version_info >= (3, 10) and words[:1] == ["data"] and len(words) == 2:  # noqa: PLR2004  verb, session
        from remote_gpu.node import data

        sys.exit(data.main(words[1]))
    if sys.version_info >= (3, 10) and words[:1] in (["data"], ["data-relay"]) and len(words) > 2:  # noqa: PLR2004  verb and two more
        from remote_gpu.node import data_relay

        sys.exit(data_relay.on_node(words[1], words[2]) if words[0] == "data" else data_relay.on_login(words[1], words[2:]))
    from remote_gpu.node import verbs

    verbs.main(words, __doc__ or "", given)


def _bundle() -> str:
    import remote_gpu

    return next(iter(remote_gpu.__path__)).rpartition("/")[0]


if __name__ == "__main__":
    main()
