"""What the look's parts say, as facts. Pure: texts in, values out; a line that is not ours is passed over."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping

from jupyter_remote_gpu.clusters.slurm_nodes import parse_nodes
from jupyter_remote_gpu.clusters.slurm_site import parse_accounts, parse_config, parse_partitions
from jupyter_remote_gpu.looking.facts import Facts, Folder, Python, SlurmFacts
from jupyter_remote_gpu.looking.programs import Part
from jupyter_remote_gpu.models import Gpu

__all__ = ["facts_of", "module_version", "pythons_of"]

_SHARED = ("lustre", "gpfs", "nfs", "beegfs", "ceph", "weka", "wekafs", "pvfs2", "fhgfs", "smb", "cifs", "panfs", "quobyte", "vast")
_LOCAL = ("ext2/ext3", "ext4", "xfs", "btrfs", "tmpfs", "zfs", "overlayfs")
_MIB = 1 << 20
_PYTHON = re.compile(r"([^|]+)\|([\d.]+)\|([^|]*)\|(yes|no)\|(.*)")
_NO_MODULE = 3
_TIMED_OUT = 124
"""The exit status of timeout(1)."""
_NONE = Part("", None)


def facts_of(host: str, parts: Mapping[str, Part], *, slurm_asked: bool) -> Facts:
    """The facts of a look at `host`."""
    machine = [*_of(parts, "machine").said.splitlines(), *[""] * 6]
    modules = _of(parts, "modules")
    accelerator, gpus = _gpus(_of(parts, "gpus").said)
    internet = _of(parts, "internet").status
    return Facts(
        host,
        system=machine[0],
        arch={"arm64": "aarch64", "amd64": "x86_64"}.get(machine[1], machine[1]),
        node=machine[2],
        user=machine[3],
        home=machine[4],
        shell=machine[5],
        home_free_mb=_free(_of(parts, "home").said),
        pythons=pythons_of(_of(parts, "pythons").said),
        modules=_modules(modules) if modules.status not in (None, _NO_MODULE, _TIMED_OUT) else None,
        modules_slow=modules.status == _TIMED_OUT,
        uv=next(_after("JRG-UV ", _of(parts, "uv").said), ""),
        gpus=gpus,
        accelerator=accelerator,
        slurm=_slurm(parts) if slurm_asked else None,
        scratch=tuple(_folders(_of(parts, "scratch").said)),
        internet=None if internet in (None, 127, _TIMED_OUT + 1) else internet == 0,
        cut_off="" if "end" in parts else (list(parts) or ["machine"])[-1],
    )


def pythons_of(said: str, prologue: tuple[str, ...] = ()) -> tuple[Python, ...]:
    """The Pythons that the part ``pythons`` tells of; one that is there under several paths only under the first."""
    found: dict[str, Python] = {}
    for line in _after("JRG-PYTHON|", said):
        if (fields := _PYTHON.fullmatch(line)) is not None:
            path, version, kernel, venv, where = fields.groups()
            found.setdefault(where, Python(path, version, kernel, venv == "yes", prologue))
    return tuple(found.values())


def module_version(name: str) -> tuple[int, ...]:
    """The Python version in a module's name: ``python/3.12.4`` → (3, 12); () when it says none, as a conda's does."""
    found = re.search(r"python[^/]*/(?:\D*)(\d)\.(\d+)", name, re.IGNORECASE)
    return (int(found[1]), int(found[2])) if found else ()


def _of(parts: Mapping[str, Part], name: str) -> Part:
    return parts.get(name, _NONE)


def _after(mark: str, said: str) -> Iterator[str]:
    return (line.removeprefix(mark).strip() for line in said.splitlines() if line.startswith(mark))


def _free(said: str) -> int | None:
    """The MiB that may be written in the home folder: of the file system and of the quota, the least."""
    found = []
    for line in _after("JRG-DF ", said):
        fields = line.split()
        if len(fields) > 3 and fields[3].isdecimal():  # noqa: PLR2004  df -P: size, used, available
            found.append(int(fields[3]) // 1024)
    for line in _after("JRG-QUOTA ", said):
        used, quota, limit = (int(field.rstrip("*") or 0) for field in [*line.split()[1:4], "0", "0", "0"][:3])
        if bound := limit or quota:
            found.append(max(0, bound - used) // 1024)
    return min(found, default=None)


def _modules(part: Part) -> tuple[str, ...]:
    """Names as ``module load`` takes them: without the marks of defaults."""
    names = (re.sub(r"\(.*?\)|[:/]$", "", line).strip() for line in part.said.splitlines())
    return tuple(dict.fromkeys(name for name in names if name and " " not in name and not name.startswith("/")))


def _gpus(said: str) -> tuple[str, tuple[Gpu, ...]]:
    """(accelerator, GPUs) by the makers' own programs."""
    rows = (line.rpartition(",") for line in _after("JRG-CUDA ", said))
    if cuda := tuple(Gpu(name.strip(), int(size)) for name, _, size in rows if name and size.strip().isdecimal()):
        return "cuda", cuda
    if rocm := tuple(_rocm(list(_after("JRG-ROCM ", said)))):
        return "rocm", rocm
    names = (line.strip('" ') for line in _after("JRG-XPU ", said))
    xpu = tuple(Gpu(name) for name in names if name and not name.lower().startswith(("device name", "error")))
    return ("xpu", xpu) if xpu else ("", ())


def _rocm(lines: list[str]) -> Iterator[Gpu]:
    """rocm-smi's table: one row for each GPU, under names that differ in their capitals from version to version."""
    for row in csv.DictReader(lines):
        named = {str(name).strip().lower(): str(value).strip() for name, value in row.items()}
        name, size = named.get("card series") or named.get("card model") or "", named.get("vram total memory (b)", "")
        if name and named.get("device", "card").startswith("card"):
            yield Gpu(name, int(size) // _MIB if size.isdecimal() else 0)


def _folders(said: str) -> Iterator[Folder]:
    seen: set[str] = set()
    for line in _after("JRG-FOLDER|", said):
        path, kind, free, inode = [*line.split("|"), "", "", ""][:4]
        if path.rstrip("/") not in seen:
            seen.add(path.rstrip("/"))
            shared = True if kind.startswith(_SHARED) else False if kind in _LOCAL else None
            yield Folder(path.rstrip("/") or "/", kind, shared, _number(free, 1024), int(inode) if inode.isdecimal() else 0)


def _number(text: str, divided_by: int) -> int | None:
    return int(text) // divided_by if text.isdecimal() else None


def _slurm(parts: Mapping[str, Part]) -> SlurmFacts | None:
    if "slurm.config" not in parts:
        return None
    config = parts["slurm.config"]
    installation = parse_config(config.said)
    accounts, partitions = _of(parts, "slurm.accounts"), _of(parts, "slurm.partitions").said
    return SlurmFacts(
        installation,
        partitions=parse_partitions(partitions),
        nodes=parse_nodes(_of(parts, "slurm.nodes").said),
        accounts=parse_accounts(accounts.said, installation.cluster) if accounts.status == 0 else (),
        said=config.said[-600:] if config.status != 0 else "",
        login_only="slurm.login" in parts,
        displaced=_displaced(partitions),
    )


def _displaced(said: str) -> frozenset[str]:
    """The partitions of a lower tier that do not say ``PreemptMode=OFF``; see slurm.conf(5) on preempt/partition_prio."""
    rows = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in said.splitlines() if line.startswith("PartitionName=")]
    tiers = {row["PartitionName"]: int(row.get("PriorityTier", "1")) for row in rows if row.get("PriorityTier", "1").isdecimal()}
    may_be = {row["PartitionName"] for row in rows if row.get("PreemptMode", "OFF") not in ("OFF", "(null)")}
    return frozenset(name for name in may_be if any(tier > tiers.get(name, 1) for tier in tiers.values()))
