"""Which machines, clusters, servers and hosts a lab has, worked out from its plan; and writing the files that say so."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.lab.client import Keys, Login, write_commands, write_config, write_known_hosts, write_node_access
from tests.lab.etc import make_homes, write_etc, write_without_slurm
from tests.lab.machines import Machine
from tests.lab.plan import Plan
from tests.lab.sites import BRISTOL, FAR, MONTREAL, Places, Site, files
from tests.lab.slurm import Cluster
from tests.lab.sshd import Sshd

__all__ = ["FAR_LOGINS", "NEAR", "build", "build_far", "cluster", "machines", "servers"]

NEAR = (BRISTOL, MONTREAL)
"""The sites that are up with the lab."""
_SITES = (*NEAR, FAR)
_NODES = tuple(node.name for site in _SITES for node in site.nodes)
_LOGINS = {
    "bristol": "bristol-login",
    "montreal": "montreal-login",
    "box": "box",
    "guarded": "bristol-login",
    "asking": "bristol-login",
    "certified": "bristol-login",
}
"""The machine of each login."""
FAR_LOGINS = {"far": "far-login", "far-box": "far-box"}
"""The same at the other end of the long path."""
_PORT_NAMES = (
    *(f"{daemon} {site.name}" for site in _SITES for daemon in ("slurmctld", "slurmdbd")),
    *(f"slurmd {name}" for name in _NODES),
    *(f"sshd {name}" for name in (*_NODES, *_LOGINS, *FAR_LOGINS)),
)
_PORTS = {name: number for number, name in enumerate(_PORT_NAMES)}


def machines(plan: Plan, sites: Iterable[Site], boxes: Iterable[str], network: int = 0) -> dict[str, Machine]:
    """The machines of `sites` and the plain `boxes`, by name; `network` as in `Machine`."""
    boxes = list(boxes)
    names = [name for site in sites for name in (f"{site.name}-ctl", f"{site.name}-login", *(node.name for node in site.nodes))]
    return {name: Machine(name, plan.folder, plan.isolated, network, slurm=name not in boxes) for name in (*names, *boxes)}


def cluster(site: Site, plan: Plan, machines: Mapping[str, Machine]) -> Cluster:
    """A site's cluster at its places and ports."""
    if not plan.isolated:
        site = site.without_accounting()
    ports = {node.name: plan.port(_PORTS[f"slurmd {node.name}"]) for node in site.nodes}
    ports |= {daemon: plan.port(_PORTS[f"{daemon} {site.name}"]) for daemon in ("slurmctld", "slurmdbd")}
    nodes = {node.name: machines[node.name] for node in site.nodes}
    return Cluster(site, plan.folder / site.name, machines[f"{site.name}-ctl"], nodes, ports)


def servers(
    plan: Plan,
    machines: Mapping[str, Machine],
    clusters: Iterable[Cluster],
    logins: Mapping[str, str] = _LOGINS,
    address: str = "127.0.0.1",
) -> dict[str, Sshd]:
    """The sshd servers by name: the `logins`, which listen on `address`, and one per compute node."""
    keys, names = plan.folder / "keys", tuple(dict.fromkeys(user.name for user in plan.users))
    environments = {f"{cluster.name}-login": cluster.environment for cluster in clusters}
    found = {}
    for name, machine in logins.items():
        port, environment = plan.port(_PORTS[f"sshd {name}"]), environments.get(machine, {})
        found[name] = Sshd(name, machines[machine], port, keys, names, environment, _settings(keys, name), address=address)
    users = (*names, *(["root"] if plan.isolated else []))
    for cluster in clusters:
        for name in cluster.nodes:
            port = plan.port(_PORTS[f"sshd {name}"])
            found[name] = Sshd(name, machines[name], port, keys, users, cluster.environment, host_key="nodes")
    return found


def _settings(keys: Path, name: str) -> tuple[str, ...]:
    return {
        "guarded": ("AuthenticationMethods publickey,password", "PasswordAuthentication yes"),
        "asking": ("AuthenticationMethods publickey,keyboard-interactive:pam", "UsePAM yes", "KbdInteractiveAuthentication yes"),
        "certified": (f"TrustedUserCAKeys {keys}/authority.pub", "AuthorizedKeysFile none"),
    }.get(name, ())


def build(plan: Plan, keys: Keys, sshd: Mapping[str, Sshd], clusters: Iterable[Cluster]) -> None:
    """Write everything that daemons and clients read."""
    if plan.isolated:
        write_etc(plan, [*(f"{site.name}-{role}" for site in _SITES for role in ("ctl", "login")), *_NODES, "box", "far-box"])
        write_without_slurm(plan)
        make_homes(plan)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    keys.folder.mkdir(mode=0o755)
    keys.make(["id", "node-id", "certified", "authority", "wrong", *_host_keys(sshd.values())])
    (keys.folder / "authorized_keys").write_text(keys.public("id") + keys.public("node-id"))
    keys.sign(86400, plan.users[0].name)
    (plan.folder / "dev").mkdir()
    for number in range(8):
        (plan.folder / "dev" / f"gpu{number}").symlink_to("/dev/null")
    for cluster in clusters:
        _write_site(plan, cluster)
    for one in sshd.values():
        one.write()
    _write_client(plan, keys, sshd)
    _write_node_access(plan, keys)


def build_far(plan: Plan, keys: Keys, sshd: Mapping[str, Sshd], cluster: Cluster) -> None:
    """The same for the far site, in a lab that is up."""
    keys.make(name for name in _host_keys(sshd.values()) if not (keys.folder / name).exists())
    _write_site(plan, cluster)
    for one in sshd.values():
        one.write()
    known = plan.folder / "ssh" / "known_hosts.far"
    write_known_hosts(known, _known(keys, sshd.values()))
    user = plan.users[0].name
    logins = [Login(name, sshd[name].port, user, address=sshd[name].address) for name in FAR_LOGINS]
    write_config(plan.folder / "ssh" / "far", logins, keys.folder, known, hosts=" ".join(FAR_LOGINS))


def _host_keys(sshd: Iterable[Sshd]) -> list[str]:
    return list(dict.fromkeys(f"host-{one.host_key or one.name}" for one in sshd))


def _known(keys: Keys, sshd: Iterable[Sshd]) -> dict[tuple[str, int], str]:
    return {(one.address, one.port): keys.public(f"host-{one.host_key or one.name}") for one in sshd}


def _write_site(plan: Plan, cluster: Cluster) -> None:
    cluster.folder.mkdir(mode=0o755)
    host = cluster.controller.name if plan.isolated else socket.gethostname().partition(".")[0]
    user = "root" if plan.isolated else plan.users[0].name
    places = Places(cluster.folder, plan.folder / "dev", host, user, cluster.ports, "" if plan.isolated else host)
    for name, content in files(cluster.site, places).items():
        path = cluster.folder / name
        path.touch(mode=0o600 if name == "slurmdbd.conf" else 0o644)
        path.write_text(content)
    key = cluster.folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))


def _write_client(plan: Plan, keys: Keys, sshd: Mapping[str, Sshd]) -> None:
    alice, bob, carol = plan.users
    folder = plan.folder / "ssh"
    folder.mkdir(mode=0o755)
    known, none, wrong = (folder / f"known_hosts{end}" for end in ("", ".none", ".wrong"))
    write_known_hosts(known, _known(keys, sshd.values()))
    none.touch()
    box = sshd["box"]
    write_known_hosts(wrong, {(box.address, box.port): keys.public("wrong")})
    certified = (f"IdentityFile {keys.folder}/certified", f"CertificateFile {keys.folder}/certified-cert.pub")
    logins = [
        *(Login(name, sshd[name].port, alice.name) for name in ("bristol", "montreal", "box", "guarded", "asking")),
        Login("certified", sshd["certified"].port, alice.name, certified),
        Login("bristol-bob", sshd["bristol"].port, bob.name),
        Login("bristol-carol", sshd["bristol"].port, carol.name),
        Login("montreal-jump", sshd["montreal"].port, alice.name, ("ProxyJump bristol",)),
        Login("stranger", box.port, alice.name, (f"UserKnownHostsFile {none}", "StrictHostKeyChecking ask")),
        Login("impostor", box.port, alice.name, (f"UserKnownHostsFile {wrong}",)),
    ]
    write_config(folder / "config", logins, keys.folder, known, first=[f"Include {folder}/far"])
    write_commands(plan.folder / "bin", folder / "config")


def _write_node_access(plan: Plan, keys: Keys) -> None:
    """For root a file that ``ssh -F`` takes; for each user a configuration of their own on the logins."""
    known, key = plan.folder / "ssh" / "known_hosts.nodes", keys.folder / "node-id"
    ports = {name: plan.port(_PORTS[f"sshd {name}"]) for name in _NODES}
    write_known_hosts(known, {("127.0.0.1", port): keys.public("host-nodes") for port in ports.values()})
    own = "root" if plan.isolated else plan.users[0].name
    write_config(plan.folder / "ssh" / "nodes", [Login(name, port, own) for name, port in ports.items()], keys.folder, known)
    if plan.isolated:
        for user in plan.users:
            write_node_access(user, [Login(name, port, user.name) for name, port in ports.items()], key, known)
