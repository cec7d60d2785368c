"""Why a job waits, in words: Slurm's reason codes (squeue(1), "JOB REASON CODES") of 22.05 to 26.05, and its sentences.

`hopeless` says that the job as it is will not start by waiting: somebody has to change it. Slurm takes such jobs unless
the site enforces its limits at submission, and keeps them for ever.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from jupyter_remote_gpu.clusters.slurm_limits import limit_in_words

__all__ = ["Reason", "reason_of"]


@dataclass(frozen=True, slots=True)
class Reason:
    """`code` as Slurm has it ("" for a sentence of its own), what it means, and what to try."""

    code: str
    sentence: str
    hint: str = ""
    hopeless: bool = False


_WAIT = "Wait; nothing is wrong with the request."
_SUPPORT = "Ask the site's support."
_OTHER = "Ask for another account, partition or QoS; `sacctmgr show assoc where user=$USER` lists yours."

_WAITING = {
    "None": ("It was submitted just now, and Slurm has not looked at it yet.", ""),
    "Priority": ("Jobs with a higher priority are before it in the queue.", "A smaller or shorter request may start sooner."),
    "Resources": ("It is next, as soon as enough nodes or GPUs are free.", "A smaller or shorter request may start sooner."),
    "BeginTime": ("Its start time has not come yet; after a requeue, Slurm waits about two minutes.", _WAIT),
    "Dependency": ("A job that it depends on has not ended yet.", _WAIT),
    "Licenses": ("A licence that it needs is in use.", _WAIT),
    "Reservation": ("It waits for its reservation: that has not begun, or has no free nodes now.", _WAIT),
    "ReqNodeNotAvail": ("Nodes that it needs are not available now.", "Wait, or ask for other nodes or another partition."),
    "PartitionDown": ("Its partition is closed and starts no jobs.", "Wait until the site opens it, or use another partition."),
    "PartitionInactive": ("Its partition is closed and starts no jobs.", "Wait until the site opens it, or use another partition."),
    "Constraints": ("Its constraints cannot be met just now.", "Wait, or ask for fewer features."),
    "AccountingPolicy": ("A limit of its account or QoS is reached.", "Wait, or ask for less."),
    "AssociationJobLimit": ("Your account has as many jobs as it may.", "Wait, or use another account."),
    "AssociationResourceLimit": ("A limit of your account is reached.", "Wait, or ask for less."),
    "QOSJobLimit": ("Its quality of service (QoS) has as many jobs as it may.", "Wait, or use another QoS."),
    "QOSResourceLimit": ("A limit of its quality of service (QoS) is reached.", "Wait, or ask for less."),
    "JobArrayTaskLimit": ("Its job array runs as many tasks as it may.", _WAIT),
    "Cleaning": ("It is being requeued, and its last run is still being cleaned up.", _WAIT),
    "Prolog": ("The site's prolog runs on its nodes.", _WAIT),
    "SchedDefer": ("The scheduler will look at it later.", _WAIT),
    "FedJobLock": ("Another cluster of the federation looks at it.", _WAIT),
    "BurstBufferResources": ("There is not enough burst buffer free.", _WAIT),
    "BurstBufferStageIn": ("Its burst buffer is being filled.", _WAIT),
    "NvidiaImexChannels": ("The channels between GPUs of several nodes are in use.", _WAIT),
    "MpiPortsBusy": ("The ports that MPI needs are in use.", _WAIT),
    "PowerNotAvail": ("There is not enough electric power for it.", _WAIT),
    "PowerReserved": ("Electric power is kept for another job.", _WAIT),
    "MaxPoweredUpNodes": ("As many nodes are switched on as may be.", _WAIT),
    "FrontEndDown": ("No front end is up that could run it.", _SUPPORT),
    "BlockMaxError": ("Nodes that it needs are being repaired.", _WAIT),
    "BlockFreeAction": ("Nodes that it needs are being set free.", _WAIT),
}

_HOPELESS = {
    "PartitionTimeLimit": ("Its time limit is longer than its partition allows.", "Ask for less time, or use another partition."),
    "PartitionNodeLimit": (
        "It asks for more or fewer nodes than its partition allows, or for nodes that are down.",
        "Ask for other nodes, or use another partition.",
    ),
    "PartitionConfig": ("Its partition does not allow what it asks for.", "Ask for less, or use another partition."),
    "BadConstraints": ("No node has what it asks for.", "Ask for fewer GPUs, CPUs or features, less memory, or use another partition."),
    "MaxMemPerLimit": ("It asks for more memory than the partition allows for its CPUs.", "Ask for less memory, or for more CPUs."),
    "AccountNotAllowed": ("Its account may not use its partition.", _OTHER),
    "QOSNotAllowed": ("Its quality of service (QoS) may not be used with its partition or account.", _OTHER),
    "InvalidAccount": ("Its account is not valid any more.", _OTHER),
    "InvalidQOS": ("Its quality of service (QoS) is not valid any more.", _OTHER),
    "AssociationTimeLimit": ("The time limit of your account is reached.", _OTHER),
    "QOSTimeLimit": ("The time limit of its quality of service (QoS) is reached.", _OTHER),
    "QOSUsageThreshold": ("Your account has used more than its quality of service (QoS) allows.", _OTHER),
    "DependencyNeverSatisfied": ("A job that it depends on ended otherwise than it asked for.", "Start again without the dependency."),
    "JobHeldUser": ("It is held by its user.", "Let it go with `scontrol release JOB`."),
    "JobHeldAdmin": ("It is held by the site.", f"{_SUPPORT} Slurm also holds a job itself whose priority is 0."),
    "JobHoldMaxRequeue": ("It was requeued too often, and is held.", _SUPPORT),
    "ReservationDeleted": ("Its reservation was deleted.", "Start again without it."),
    "ReservationInvalid": ("Its reservation is not valid any more.", "Start again without it."),
    "DeadLine": ("It could not end before its deadline any more.", "Start again with a later deadline, or less time."),
    "BurstBufferOperation": ("A burst buffer operation failed.", _SUPPORT),
    # reasons of jobs that have ended already
    "NodeDown": ("A node of it failed.", "Start again; Slurm leaves the broken node out."),
    "JobLaunchFailure": ("It could not be started on its node.", "Start again; if that happens again, ask the site's support."),
    "NonZeroExitCode": ("Its script ended with an error.", "The session's log says which."),
    "RaisedSignal": ("Its script was ended by a signal.", "The session's log may say why."),
    "TimeLimit": ("Its time limit was reached.", "Ask for more time."),
    "InactiveLimit": ("It was ended because nothing of it was active.", _SUPPORT),
    "OutOfMemory": ("It used more memory than it had asked for.", "Ask for more memory."),
    "SystemFailure": ("Slurm itself failed.", _SUPPORT),
}

_SENTENCES = (
    (re.compile(r"ReqNodeNotAvail.*UnavailableNodes:\s*(?P<x>\S+)"), "Nodes that it needs are down or drained: {x}.", "Wait, or ask for other nodes or another partition.", False),
    (re.compile(r"ReqNodeNotAvail.*maintenance"), "Nodes that it needs are kept for maintenance.", "A time limit that ends before the maintenance may start at once.", False),
    (re.compile(r"ReqNodeNotAvail.*reserved"), "Nodes that it needs may be kept for another job.", "A smaller or shorter request may start sooner.", False),
    (re.compile(r"Nodes required for job are DOWN"), "Nodes that it needs are down, drained, or kept for jobs in partitions with a higher priority.", "Wait, or ask for other nodes or another partition.", False),
    (re.compile(r"Job's (?P<x>account|QOS) not (?:permitted|known).*\((?P<y>.*)\)"), "Its {x} may not use its partition ({y}).", _OTHER, True),
    (re.compile(r"not in group permitted.*groups allowed: (?P<x>.*)"), "Its partition is only for the groups {x}.", _OTHER, True),
    (re.compile(r"is at or exceeds (?P<x>.*)"), "The job exceeds {x}.", "Ask for less time, or use another account.", True),
    (re.compile(r"requeued (?:in held|held)"), "It could not be started, or was requeued, and is held now.", "See whether its log says why; let it go with `scontrol release JOB`, or start again.", True),
    (re.compile(r"Reservation (?P<x>\S+) (?:was deleted|is invalid)"), "Its reservation {x} is not there any more.", "Start again without it.", True),
)  # fmt: skip


def reason_of(text: str) -> Reason:
    """The reason that squeue or scontrol shows, in words; of one that nobody knows, Slurm's own word."""
    plain = re.sub(r"^\((.*)\)$", r"\1", text.strip()) or "None"
    if " " not in plain and "_" in plain:  # scontrol prints a sentence so; a node's name may have one of its own
        plain = plain.replace(",_", ", ") if plain.startswith("ReqNodeNotAvail") else plain.replace("_", " ")
    for pattern, sentence, hint, hopeless in _SENTENCES:
        if found := pattern.search(plain):
            code = plain.partition(",")[0] if plain.startswith("ReqNodeNotAvail") else ""
            return Reason(code, sentence.format(**found.groupdict()), hint, hopeless)
    code = re.split(r"[\s,:]", plain, maxsplit=1)[0]
    for table, hopeless in ((_WAITING, False), (_HOPELESS, True)):
        if code in table:
            return Reason(code, *table[code], hopeless=hopeless)
    limit = limit_in_words(code)
    if limit:
        return Reason(code, limit[0], limit[1], hopeless=limit[2])
    return Reason(code if code == plain else "", f"Slurm says: {plain}.")
