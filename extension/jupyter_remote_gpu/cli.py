"""``jupyter remote-gpu``: look after remote sessions from a terminal.

Exit status: 0 done, 1 it did not work (one sentence on stderr), 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NoReturn

from jupyter_remote_gpu import __version__
from remote_gpu.discovery import find_or_start_gateway
from remote_gpu.errors import RemoteGpuError
from remote_gpu.gateway import ClusterInfo, Gateway, SessionInfo

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors suggest the word that was probably meant."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {message}\n")

    def check(self, words: Iterable[str]) -> None:
        """Refuse the words that nothing understood."""
        for word in words:
            known = [option for option in self._option_string_actions if option.startswith("--")]
            self.error(f"unknown option or word {word!r}.{_suggestion(word.partition('=')[0], known)}")


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _parser() -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(prog="jupyter remote-gpu", description="Remote GPU sessions of your notebooks.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"jupyter-remote-gpu {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", parser_class=_Parser)
    made: dict[str, _Parser] = {}

    def verb(name: str, text: str, *, machine: bool = True) -> _Parser:
        made[name] = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        if machine:
            made[name].add_argument("--json", action="store_true", help="print JSON")
        return made[name]

    verb("clusters", "List the clusters and their free GPUs.")
    verb("sessions", "List the remote sessions.").add_argument("--all", action="store_true", help="also those that are over")
    stop = verb("stop", "End remote sessions: their kernels, allocations and journals.")
    stop.add_argument("names", nargs="*", metavar="NAME", help="a session's name or id")
    stop.add_argument("--all", action="store_true", help="every session")
    connect = verb("connect", "Make a connection file by which any Jupyter client can use a session, and print its path.")
    connect.add_argument("name", metavar="NAME", help="a session's name or id")
    connect.add_argument("--role", default="editor", choices=("editor", "viewer", "owner"), help="what the client may do (editor)")
    logs = verb("logs", "Show what a session's supervisor and kernel wrote beside their output.")
    logs.add_argument("name", metavar="NAME", help="a session's name or id")
    logs.add_argument("--lines", type=int, default=100, metavar="N", help="the last N lines (100)")
    verb("doctor", "Check the set-up, and say what to mend.")
    serve = verb("serve", "Run the gateway without a Jupyter server; further options are jupyter_server's.", machine=False)
    serve.add_argument("--background", action="store_true", help="leave it running and return when it is ready")
    serve.add_argument("--timeout", type=float, default=30, metavar="S", help="seconds to wait for it in the background (30)")
    serve.add_argument("--unused", type=float, default=1200, metavar="S", help="end after S seconds without use (1200); 0 = never")
    kernel = verb("kernel", "What a kernelspec names; not for use by hand.", machine=False)
    kernel.add_argument("connection_file")
    return parser, made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser, verbs = _parser()
    if not words:
        parser.print_help()
        return 0
    if not words[0].startswith("-") and words[0] not in verbs:
        parser.error(f"unknown verb {words[0]!r}.{_suggestion(words[0], verbs)} Verbs: {', '.join(verbs)}.")
    options, rest = parser.parse_known_args(words)
    if options.verb is None:
        parser.check(rest)
    elif options.verb != "serve":
        verbs[options.verb].check(rest)
    try:
        return _VERBS[options.verb](options, rest)
    except RemoteGpuError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return 1


def _clusters(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    with Gateway(find_or_start_gateway()) as gateway:
        found = gateway.clusters()
    if options.json:
        return _print_json([asdict(cluster) for cluster in found])
    return _print_table(("NAME", "KIND", "STATE", "GPUS", "FREE", "WHAT"), (_cluster_row(cluster) for cluster in found))


def _cluster_row(cluster: ClusterInfo) -> tuple[str, ...]:
    what = f"{cluster.label} ({cluster.detail})" if cluster.detail and cluster.detail != cluster.label else cluster.label
    return cluster.name, cluster.kind, cluster.state, str(cluster.gpus_total), str(cluster.gpus_free), what


def _sessions(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    with Gateway(find_or_start_gateway()) as gateway:
        found = [session for session in gateway.sessions() if options.all or not session.over]
    if options.json:
        return _print_json([asdict(session) for session in found])
    if not found:
        print("No remote sessions." if options.all else "No remote session runs.")
        return 0
    return _print_table(("NAME", "ID", "CLUSTER", "NODE", "STATE", "KERNEL", "LINK", "NOTEBOOK"), (_session_row(each) for each in found))


def _session_row(session: SessionInfo) -> tuple[str, ...]:
    kernel = str(session.kernel.get("state", "")) if session.kernel else ""
    return session.name, session.id, session.cluster, session.node, session.state, kernel, session.link, session.notebook


def _stop(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    if bool(options.names) == options.all:
        _parser()[1]["stop"].error("name the sessions to stop, or say --all.")
    with Gateway(find_or_start_gateway()) as gateway:
        names = [session.id for session in gateway.sessions() if not session.over] if options.all else options.names
        stopped, failed = [], []
        for name in names:
            try:
                gateway.stop_session(name)
                stopped.append(name)
            except RemoteGpuError as error:
                failed.append(name)
                print(f"jupyter remote-gpu: {error}", file=sys.stderr)
    if options.json:
        _print_json({"stopped": stopped, "failed": failed})
    else:
        print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was stopped.")
    return 1 if failed else 0


def _connect(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    with Gateway(find_or_start_gateway()) as gateway:
        attachment = gateway.attach(options.name, role=options.role, name="connect", lasting=True)
    if options.json:
        return _print_json({"session": options.name, "attachment": attachment.id, "connection_file": str(attachment.connection_file)})
    print(attachment.connection_file)
    return 0


def _logs(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    with Gateway(find_or_start_gateway()) as gateway:
        text = gateway.logs(options.name, lines=options.lines)
    if options.json:
        return _print_json({"session": options.name, "text": text})
    print(text, end="" if text.endswith("\n") else "\n")
    return 0


def _doctor(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    from jupyter_remote_gpu.doctor import examine

    findings = list(examine())
    if options.json:
        _print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{finding.verdict:<4}  {finding.what}: {finding.found}")
            if finding.mend:
                print(f"      → {finding.mend}")
    return 1 if any(finding.verdict == "bad" for finding in findings) else 0


def _serve(options: argparse.Namespace, rest: Sequence[str]) -> int:
    from jupyter_remote_gpu import headless

    if not options.background:
        return headless.serve(rest, idle=options.unused)
    record = headless.start_in_background(rest, idle=options.unused, timeout=options.timeout)
    print(f"The gateway runs as process {record.pid}.")
    return 0


def _kernel(_options: argparse.Namespace, _rest: Sequence[str]) -> int:
    message = (
        "jupyter remote-gpu: this program starts kernels by their command line and so cannot start a remote one.\n"
        "Use a Python kernel and %%remote_gpu in its cells; or a program that starts kernels by jupyter_client, like JupyterLab."
    )
    print(message, file=sys.stderr)
    return 1


_VERBS = {
    "clusters": _clusters,
    "sessions": _sessions,
    "stop": _stop,
    "connect": _connect,
    "logs": _logs,
    "doctor": _doctor,
    "serve": _serve,
    "kernel": _kernel,
}


def _print_json(value: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> int:
    print(json.dumps(value, indent=2, default=str))
    return 0


def _print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0
