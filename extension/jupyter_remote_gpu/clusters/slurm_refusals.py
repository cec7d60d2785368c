"""What sbatch says when it takes no job, as an error of ours: Slurm's own words, and what to try.

Slurm's messages are the same from 22.05 to 26.05 (its slurm_errno.c); a site's submission plug-in may say anything before.
"""

from __future__ import annotations

import re

from jupyter_remote_gpu.clusters.slurm_limits import limit_in_words
from remote_gpu.errors import LinkProblem, RemoteGpuError, StartFailed, UsageProblem

__all__ = ["no_controller", "refusal_of"]

_ASK_ACCOUNT = "`sacctmgr show assoc where user=$USER` on the cluster lists your accounts and QoS."

_AWAY = re.compile(
    r"(Unable to contact slurm controller|Socket timed out on send/recv|Communication (?:connection|shutdown) failure|"
    r"Zero Bytes were transmitted|Connection refused|Connection timed out|Slurm backup controller in standby|"
    r"Could not establish a configuration source|Rate limit exceeded|Slurm temporarily unable to accept job|"
    r"Resource temporarily unavailable|fetch_config|getaddrinfo\(\) f)",
    re.IGNORECASE,
)
"""The controller does not answer, or not now. That says nothing of the job."""

_WORDS = (
    ("account or account/partition", "Set the cluster's account, or ask for another.", _ASK_ACCOUNT),
    ("invalid partition|no partition specified|partition set in the association", "Choose a partition that the cluster has.", "`sinfo -s` on the cluster lists them."),
    ("partition in DOWN state|partition not available", "Wait until the site opens the partition, or use another.", ""),
    ("group not permitted|account, or partition not permitted", "Use a partition that is open to you.", "`sinfo -s` on the cluster lists those that you may see."),
    ("qos specification|qos usage threshold|invalid qos", "Use a QoS that your account has.", _ASK_ACCOUNT),
    ("time limit|time-min specification|--time specification|time specified", "Ask for a time limit that the partition allows.", "`sinfo -o '%P %l'` on the cluster lists them."),
    ("violates accounting/QOS policy", "A limit of your account or QoS is reached or would be: end other jobs of yours, or ask for less.", _ASK_ACCOUNT),
    ("node configuration is not available|nodes not in this partition", "No node has all that is asked for: ask for fewer GPUs or CPUs, less memory, another model, or another partition.", ""),
    ("memory specification|memory required", "Ask for less memory.", ""),
    ("cpu count|more processors|tasks than available|--cpus-per-task", "Ask for fewer CPUs.", ""),
    ("node count|--nodes|node limit", "Ask for fewer nodes.", ""),
    ("generic resource|GRES|Trackable RESource|--gpus", "Ask for a GPU model and count that the cluster has.", "`sinfo -o '%P %G'` on the cluster lists them."),
    ("feature specification|constraint", "Leave the constraint out, or use a feature that the nodes have.", "`sinfo -o '%P %f'` on the cluster lists them."),
    ("reservation", "Leave the reservation out, or use one that is open to you now.", "`scontrol show reservation` on the cluster lists them."),
    ("license", "Leave the licence out, or ask for fewer.", "`scontrol show license` on the cluster lists them."),
    ("node name", "Leave the node's name out, or correct it.", ""),
    ("dependency", "Leave the dependency out: that job is not there any more, or has ended.", ""),
    ("unrecognized option|ambiguous|invalid option", "The cluster's Slurm does not know one of the options: take it out of the cluster's configuration.", ""),
    ("required.*exclusive|whole node|must request", "Follow what the site says, in the cluster's configuration or the request.", ""),
    ("user id|user not found|submissions disabled|access/permission denied|authentication", "Ask the site's support: it does not let you submit jobs.", ""),
)  # fmt: skip
_ABOUT_REQUEST = re.compile("|".join(f"(?:{pattern})" for pattern, *_ in _WORDS[:-1]), re.IGNORECASE)

_PREFIX = re.compile(r"^(?:sbatch: |srun: |error: |fatal: |allocation failure: |Batch job submission failed: )+", re.IGNORECASE)
_LITTLE = re.compile(r"""^(?:Try "sbatch --help"|sbatch: (?:lua: )?(?:Submitted|Job \d+ to start)|\s*$)""")


def refusal_of(stderr: str, where: str, *, status: int | None = None) -> RemoteGpuError:
    """The error that sbatch's `stderr` tells of: `LinkProblem` when the controller does not answer, else a refusal.

    A refusal of what was asked for is a `UsageProblem`: trying the same again cannot help. Anything else is `StartFailed`.
    """
    lines = [line.strip() for line in stderr.splitlines() if not _LITTLE.match(line)]
    said = list(dict.fromkeys(_PREFIX.sub("", line) for line in lines if line))
    if no_controller(stderr):
        verdict = next((line for line in said if no_controller(line)), "it gives no answer")
        message = f"The Slurm controller of {where} does not answer: {verdict}."
        return LinkProblem(message, hint="It may be restarting; try again in a minute.", step="sbatch")
    if not said:
        ending = f"with status {status}" if status is not None else "without a job"
        return StartFailed(f"sbatch ended {ending} on {where}, without a word.", step="sbatch", status_code=status)
    words = "\n".join(said[-6:])
    kind = UsageProblem if _ABOUT_REQUEST.search(words) else StartFailed
    message = f"Slurm on {where} did not take the job: {words}" + ("" if words.endswith((".", "!")) else ".")
    return kind(message, hint=_hint(words), step="sbatch")


def no_controller(stderr: str) -> bool:
    """Whether a Slurm command failed because the controller did not answer: nothing is known then."""
    return _AWAY.search(stderr) is not None


def _hint(words: str) -> str:
    for line in words.splitlines():  # the last line is the verdict; those before it say more
        if limit := limit_in_words(line):
            return f"{limit[0]} {limit[1]}"
        for pattern, what, how in _WORDS:
            if re.search(pattern, line, re.IGNORECASE):
                return f"{what} {how}".strip()
    return "What the site says of its rules may help."
