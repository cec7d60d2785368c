"""Jobs and nodes from what Slurm prints with ``--json``: plain values before 23.02, ``{"set", "infinite", "number"}`` since.

Our own commands ask for text (see `slurm_text`). This reads what a site's wrapper, ``scontrol --json`` or slurmrestd gives.
Field names: the data_parser plug-ins v0.0.38 to v0.0.45.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jupyter_remote_gpu.clusters.slurm_values import NodeGroup, SlurmJob, exit_of, job_gpus, said
from jupyter_remote_gpu.clusters.slurm_words import ENDED, state_of
from remote_gpu.errors import StartFailed

__all__ = ["jobs_of_json", "nodes_of_json"]


def jobs_of_json(text: str) -> list[SlurmJob]:
    """The jobs of ``squeue --json``; raises `StartFailed` when `text` is not that."""
    return [_job(job) for job in _objects(_document(text).get("jobs"))]


def nodes_of_json(text: str) -> tuple[NodeGroup, ...]:
    """The nodes of ``sinfo --json`` or ``scontrol show nodes --json``, in each of their partitions; the former groups them since 23.02."""
    document = _document(text)
    alone = [_alone(node, str(name)) for node in _objects(document.get("nodes")) for name in node.get("partitions") or ()]
    return (*alone, *(_group(group) for group in _objects(document.get("sinfo"))))


def _document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise StartFailed(f"Slurm's answer is not JSON: {text[:200]!r}") from error
    if not isinstance(document, dict):
        raise StartFailed(f"Slurm's answer is no JSON object: {text[:200]!r}")
    return document


def _objects(values: Any) -> Iterator[dict[str, Any]]:
    return (value for value in values or () if isinstance(value, dict))


def _job(job: Mapping[str, Any]) -> SlurmJob:
    state, flags = state_of(job.get("job_state") or "")
    minutes = _number(job.get("time_limit"))
    code, signal = _exit(job.get("exit_code"))
    asked = [str(job.get(name) or "") for name in ("tres_per_node", "tres_per_job")]
    pending_end = 0.0 if state in ENDED else _time(job, "start_time") + (minutes or 0) * 60
    return SlurmJob(
        id=str(job.get("job_id", "")),
        state=state,
        flags=flags,
        name=_text(job, "name"),
        reason=said(_text(job, "state_reason")),
        nodes=_text(job, "nodes"),
        batch_host=_text(job, "batch_host"),
        partition=_text(job, "partition"),
        account=_text(job, "account"),
        qos=_text(job, "qos"),
        user=_text(job, "user_name"),
        submitted=_time(job, "submit_time"),
        start=_time(job, "start_time"),
        end=_time(job, "end_time") or pending_end,
        time_limit=None if minutes is None else minutes * 60,
        priority=_number(job.get("priority")) or 0,
        restarts=_number(job.get("restart_cnt")) or 0,
        gpus=job_gpus(_text(job, "tres_alloc_str") or _text(job, "tres_req_str"), *asked),
        exit_code=code,
        signal=signal,
        stdout=_text(job, "standard_output"),
        comment=_text(job, "comment"),
    )


def _exit(value: Any) -> tuple[int, int]:
    if isinstance(value, dict):
        signal = value.get("signal") or {}
        return _number(value.get("return_code")) or 0, _number(signal.get("id", signal.get("signal_id"))) or 0
    return exit_of(str(value or 0))


def _group(group: Mapping[str, Any]) -> NodeGroup:
    nodes, cpus, gres, features = (group.get(name) or {} for name in ("nodes", "cpus", "gres", "features"))
    partition = group.get("partition") or {}
    state, flags = _node_state((group.get("node") or {}).get("state") or ())
    return NodeGroup(
        partition=str(partition.get("name", "")),
        state=state,
        flags=flags,
        count=int(nodes.get("total") or 0),
        nodes=",".join(nodes.get("nodes") or ()),
        gres=str(gres.get("total") or ""),
        gres_used=str(gres.get("used") or ""),
        cpus=int(cpus.get("total") or 0),
        cpus_free=int(cpus.get("idle") or 0),
        memory_mb=int((group.get("memory") or {}).get("minimum") or 0),
        features=_words(features.get("total")),
        reason=str((group.get("reason") or {}).get("description") or ""),
        available="UP" in ((partition.get("partition") or {}).get("state") or ()),
    )


def _alone(node: Mapping[str, Any], partition: str) -> NodeGroup:
    given = node.get("state") or ""
    words = [given, *(node.get("state_flags") or ())] if isinstance(given, str) else given
    state, flags = _node_state(words)
    idle = node.get("alloc_idle_cpus", node.get("idle_cpus"))
    return NodeGroup(
        partition=partition,
        state=state,
        flags=flags,
        count=1,
        nodes=_text(node, "name"),
        gres=_text(node, "gres"),
        gres_used=_text(node, "gres_used"),
        cpus=_number(node.get("cpus")) or 0,
        cpus_free=_number(idle) or 0,
        memory_mb=_number(node.get("real_memory")) or 0,
        features=_words(node.get("features")),
        reason=_text(node, "reason"),
    )


def _node_state(words: Any) -> tuple[str, frozenset[str]]:
    lower = [str(word).lower() for word in words]
    return (lower[0], frozenset(lower[1:])) if lower else ("unknown", frozenset())


def _words(value: Any) -> tuple[str, ...]:
    words = value.split(",") if isinstance(value, str) else value or ()
    return tuple(str(word) for word in words if word)


def _text(values: Mapping[str, Any], name: str) -> str:
    return str(values.get(name) or "")


def _time(values: Mapping[str, Any], name: str) -> float:
    return float(_number(values.get(name)) or 0)


def _number(value: Any) -> int | None:
    """A number in either spelling; None for one that is not set, or without limit."""
    if isinstance(value, dict):
        return int(value.get("number") or 0) if value.get("set") and not value.get("infinite") else None
    return int(value) if isinstance(value, (int, float)) else None
