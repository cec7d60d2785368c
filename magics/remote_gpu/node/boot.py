"""What runs first on a cluster's machine, sent as text to a Python that may be any: so it is written for an old one.

It fetches the node's half, unless that is there already, compiles it for this Python, and becomes the agent. It says one line, ``JRG {json}``:
``{"need": true}`` (then it reads a line with a size, and so many bytes), ``{"problem": …}``, or the agent's own hello. Its arguments are the size of this
text, the digest of the sources, and perhaps the folder to keep them in, instead of one in the user's cache folder.
"""

import json
import os
import sys


def say(value: object) -> None:
    sys.stdout.write("JRG " + json.dumps(value) + "\n")
    sys.stdout.flush()


def give_up(reason: str, title: str, hint: str) -> None:
    say({"problem": {"reason": reason, "title": title, "hint": hint, "status": 502}})
    sys.exit(1)


def fetch() -> bytes:
    """The sources, packed, from whoever started this."""
    say({"need": True})
    size = int(sys.stdin.buffer.readline())
    data = sys.stdin.buffer.read(size)
    if len(data) < size:
        sys.exit(1)
    return data


def build(sources: bytes, path: str) -> None:
    """Make the archive that this Python runs without compiling anything again.

    The first one stays: another machine with this home may read it by now, and code that is compiled twice need not be the same bytes.
    """
    temporary = "%s.%s.%d" % (path, os.uname()[1], os.getpid())
    try:
        write(sources, temporary)
        try:
            os.link(temporary, path)
        except OSError:  # it is there, or the file system has no hard links
            if not os.path.exists(path):
                os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def write(sources: bytes, path: str) -> None:
    import importlib.util
    import io
    import marshal
    import zipfile

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w+b") as file, zipfile.ZipFile(io.BytesIO(sources)) as given, zipfile.ZipFile(file, "w") as made:
        for name in given.namelist():
            source = given.read(name)
            code = marshal.dumps(compile(source, name, "exec", dont_inherit=True, optimize=0))
            seal = importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + importlib.util.source_hash(source)  # unchecked, by hash (PEP 552)
            made.writestr(zipfile.ZipInfo(name), source)
            made.writestr(zipfile.ZipInfo(name + "c"), seal + code)


def boot(digest: str, folder: str) -> None:
    node = os.uname()[1]
    if sys.version_info < (3, 10):
        have = "%d.%d" % sys.version_info[:2]
        what = "%s on %s is Python %s; a session needs 3.10." % (sys.executable, node, have)
        give_up("start_failed", what, "Set the cluster's python to a newer one.")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(folder or os.path.join(cache, "jupyter-remote-gpu"), "b")
    path = os.path.join(folder, "%s-%s.pyz" % (digest[:16], sys.implementation.cache_tag))
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        if not os.path.exists(path):
            build(fetch(), path)
    except OSError as error:
        give_up("not_writable", "%s cannot write %s: %s." % (node, path, error.strerror), "Is your quota on the cluster used up?")
    sys.path.insert(0, path)
    sys.argv[:] = [path, "agent"]
    from remote_gpu.node.__main__ import main

    main()


if __name__ == "__main__":
    boot(sys.argv[2], sys.argv[3] if sys.argv[3:] else "")
