"""``jupyter remote-gpu``: look after clusters and remote sessions from a terminal.

Exit status: 0 done, 1 it did not work (one sentence on stderr), 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from jupyter_remote_gpu import cli_selection
from jupyter_remote_gpu.cli_gateway import CliGateway
from jupyter_remote_gpu.cli_output import note, print_json, print_table, say
from jupyter_remote_gpu.cli_parser import Parser, check_together, make_parser, suggestion
from remote_gpu.discovery import find_or_start_gateway
from remote_gpu.errors import RemoteGpuError
from remote_gpu.gateway import Gateway, SessionInfo

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser, verbs = make_parser()
    if not words:
        parser.print_help()
        return 0
    _check_verb(parser, verbs, words)
    options, rest = parser.parse_known_args(words)
    name = f"{options.verb or ''} {getattr(options, 'action', None) or ''}".strip()
    if name != "serve":
        verbs.get(name, parser).check(rest)
    check_together(verbs, name, options)
    try:
        return _VERBS[options.verb](options, rest)
    except RemoteGpuError as error:
        note(f"{parser.prog}: {error}")
    except (KeyboardInterrupt, EOFError):
        note("")
    return 1


def _check_verb(parser: Parser, verbs: Mapping[str, Parser], words: Sequence[str]) -> None:
    """Refuse a word that is no verb, with the nearest one."""
    first, second = [*words, ""][:2]
    if first.startswith("-"):
        return
    if first not in verbs:
        known = [name for name in verbs if " " not in name]
        parser.error(f"unknown verb {first!r}.{suggestion(first, known)} Verbs: {', '.join(known)}.")
    below = [name.partition(" ")[2] for name in verbs if name.startswith(f"{first} ")]
    if below and second and not second.startswith("-") and second not in below:
        verbs[first].error(f"unknown verb {second!r}.{suggestion(second, below)} Verbs: {', '.join(below)}.")


def _clusters(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    from jupyter_remote_gpu import cli_clusters

    return cli_clusters.run(options)


def _login(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    from jupyter_remote_gpu.cli_tasks import log_in

    with CliGateway(find_or_start_gateway()) as gateway:
        login = log_in(gateway, options.name)
    if options.json:
        return print_json(asdict(login))
    until = f" Your certificate ends {_moment(login.expires)}." if login.expires else ""
    say(f"Logged in to {login.host}.{until}")
    return 0


def _logout(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    with Gateway(find_or_start_gateway()) as gateway:
        host = gateway.login(options.name).host
        gateway.end_login(options.name)
    if options.json:
        return print_json({"host": host})
    say(f"Logged out of {host}; sessions there go on.")
    return 0


def _sessions(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    with Gateway(find_or_start_gateway()) as gateway:
        known, problems = gateway.all_sessions() if options.all else (gateway.sessions(), ())
    for problem in problems:
        note(problem)
    found = [session for session in known if options.all or not session.over]
    if options.json:
        return print_json([asdict(session) for session in found])
    if not found:
        say("No remote sessions." if options.all else "No remote session runs.")
        return 0
    return print_table(("NAME", "ID", "CLUSTER", "NODE", "STATE", "KERNEL", "LINK", "NOTEBOOK"), (_session_row(each) for each in found))


def _session_row(session: SessionInfo) -> tuple[str, ...]:
    kernel = str(session.kernel.get("state", "")) if session.kernel else ""
    return session.name, session.id, session.cluster, session.node, session.state, kernel, session.link, session.notebook


def _stop(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    with Gateway(find_or_start_gateway()) as gateway:
        names = [session.id for session in gateway.sessions() if not session.over] if options.all else options.names
        stopped, failed = [], []
        for name in names:
            try:
                gateway.stop_session(name)
                stopped.append(name)
            except RemoteGpuError as error:
                failed.append(name)
                note(f"jupyter remote-gpu: {error}")
    if options.json:
        print_json({"stopped": stopped, "failed": failed})
    else:
        say(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was stopped.")
    return 1 if failed else 0


def _extend(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    with Gateway(find_or_start_gateway()) as gateway:
        session = gateway.extend(options.name, options.time)
    if options.json:
        return print_json(asdict(session))
    say(f"{session.name} ends {_moment(session.ends)}." if session.ends else f"{session.name} was given more time.")
    return 0


def _connect(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    with Gateway(find_or_start_gateway()) as gateway:
        attachment = gateway.attach(options.name, role=options.role, name="connect", lasting=True)
    if options.json:
        return print_json({"session": options.name, "attachment": attachment.id, "connection_file": str(attachment.connection_file)})
    say(str(attachment.connection_file))
    return 0


def _logs(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    with Gateway(find_or_start_gateway()) as gateway:
        text = gateway.logs(options.name, lines=options.lines)
    if options.json:
        return print_json({"session": options.name, "text": text})
    say(text.removesuffix("\n"))
    return 0


def _doctor(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    from jupyter_remote_gpu.doctor import examine

    findings = list(examine())
    if options.json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            say(f"{finding.verdict:<4}  {finding.what}: {finding.found}")
            if finding.mend:
                say(f"      → {finding.mend}")
    return 1 if any(finding.verdict == "bad" for finding in findings) else 0


def _serve(options: argparse.Namespace, rest: Sequence[str]) -> int:
    from jupyter_remote_gpu import headless

    if not options.background:
        return headless.serve(rest, idle=options.unused)
    record = headless.start_in_background(rest, idle=options.unused, timeout=options.timeout)
    say(f"The gateway runs as process {record.pid}.")
    return 0


def _kernel(_options: argparse.Namespace, _rest: Sequence[str]) -> int:
    note(
        "jupyter remote-gpu: this program starts kernels by their command line and so cannot start a remote one.\n"
        "Use a Python kernel and %%remote_gpu in its cells; or a program that starts kernels by jupyter_client, like JupyterLab."
    )
    return 1


_VERBS: Mapping[str, Callable[[argparse.Namespace, Sequence[str]], int]] = {
    "clusters": _clusters,
    "login": _login,
    "logout": _logout,
    "sessions": _sessions,
    "stop": _stop,
    "extend": _extend,
    "connect": _connect,
    "logs": _logs,
    "where": lambda options, _: cli_selection.where(options),
    "why": lambda options, _: cli_selection.why(options),
    "doctor": _doctor,
    "serve": _serve,
    "kernel": _kernel,
}


def _moment(text: str) -> str:
    """A time of the API, as it is here: 14:05, on another day 27 November 14:05."""
    try:
        found = datetime.fromisoformat(text).astimezone()
    except ValueError:
        return text
    return found.strftime("%H:%M" if found.date() == datetime.fromtimestamp(time.time()).astimezone().date() else "%-d %B %H:%M")
