"""Limits in words: Slurm names each by rule (``AssocGrpGRESMinutes``, ``QOSMaxCpuPerUserLimit``), so they are read by rule.

Whose limit it is (an account's association, a quality of service), over what it counts (all jobs together, one user's, one
job, one node), what it counts, and whether that is an amount, a budget of minutes, or the minutes that running jobs have left.
"""

from __future__ import annotations

import re

__all__ = ["limit_in_words"]

_CODE = re.compile(
    r"(?P<who>Assoc|QOS)?(?P<scope>Grp|Max|Min)"
    r"(?P<what>BB|Billing|Cpu|CPU|Energy|GRES|Jobs|License|Memory|Mem|Node|SubmitJobs?|Unknown|WallDuration|Wall)"
    r"(?P<minutes>RunMinutes|RunMins|Minutes)?(?:Per(?P<per>Job|Node|User|Account))?(?:Limit|NotSatisfied)?"
)
_WHAT = {
    "BB": "burst buffer",
    "Billing": "billing",
    "Cpu": "CPU",
    "CPU": "CPU",
    "Energy": "energy",
    "GRES": "GPU",
    "License": "licence",
    "Memory": "memory",
    "Mem": "memory",
    "Node": "node",
    "Unknown": "resource",
}
_COUNTED = ("CPU", "GPU", "licence", "node")


def limit_in_words(code: str) -> tuple[str, str, bool] | None:
    """(sentence, hint, whether waiting is no use) of a reason that names a limit; None for any other reason."""
    found = _CODE.fullmatch(code)
    if not found:
        return None
    who = "your account" if found["who"] == "Assoc" else "its quality of service (QoS)"
    what, per = found["what"], found["per"]
    if what.startswith(("Jobs", "SubmitJob")):
        return _jobs(who, what, found["scope"], per)
    if what.startswith("Wall"):
        return _wall(who, found["scope"])
    thing = _WHAT[what]
    if found["minutes"]:
        return _minutes(who, thing, per, running=found["minutes"].startswith("Run"))
    if found["scope"] == "Min":
        return f"It asks for {_less(thing)} than {who} wants.", f"Ask for more {_many(thing)}, or use another QoS.", True
    return _amount(who, thing, found["scope"], per)


def _amount(who: str, thing: str, scope: str, per: str | None) -> tuple[str, str, bool]:
    if scope == "Grp":
        their = "your account's" if who == "your account" else "the QoS's"
        of = "the account" if who == "your account" else "that QoS"
        sentence = f"{their.capitalize().replace('qos', 'QoS')} {thing} limit is reached: other jobs of {of} have to end first."
        return sentence, "Wait, ask for less, or use another account or QoS.", False
    if per in ("User", "Account"):
        have, let = ("You have", "one user") if per == "User" else ("Your account has", "one account")
        mine = "your other jobs" if per == "User" else "other jobs of the account"
        sentence = f"{have} as much {_many(thing)} in use as {who} lets {let} have: {mine} have to end first."
        return (
            sentence.replace("as much", "as many" if thing in _COUNTED else "as much"),
            "Wait, or end a session that you do not need.",
            False,
        )
    where = " on one node" if per == "Node" else ""
    return (
        f"It asks for more {_many(thing)}{where} than {who} lets one job have.",
        f"Ask for less {_many(thing)}, or use another QoS.",
        True,
    )


def _minutes(who: str, thing: str, per: str | None, *, running: bool) -> tuple[str, str, bool]:
    if running:
        whose = {"User": "Your running jobs", "Account": "The running jobs of your account"}.get(per or "", f"The running jobs of {who}")
        return (
            f"{whose} have as many {thing} minutes left as they may: this one has to wait.",
            "A shorter time limit may start sooner.",
            False,
        )
    if per == "Job":
        return f"It asks for more {thing} minutes than {who} lets one job have.", f"Ask for less time or {_less(thing)}.", True
    return (
        f"The budget of {thing} minutes of {who} is not enough for it.",
        "Ask for less time, use another account, or ask whoever leads the project for more.",
        True,
    )


def _jobs(who: str, what: str, scope: str, per: str | None) -> tuple[str, str, bool]:
    doing = "in the queue" if what.startswith("Submit") else "running"
    if scope == "Grp" or per == "Account":
        return f"{who.capitalize()} has as many jobs {doing} as it may: other jobs have to end first.".replace("qos", "QoS"), "Wait.", False
    sentence = f"You have as many jobs {doing} as {who} lets one user have: your other jobs have to end first."
    return sentence, "Wait, or end a session that you do not need.", False


def _wall(who: str, scope: str) -> tuple[str, str, bool]:
    if scope == "Grp":
        return f"The budget of time of {who} is used up.", "Use another account or QoS, or ask whoever leads the project for more.", True
    return f"Its time limit is longer than {who} lets one job run.", "Ask for less time, or use another QoS.", True


def _less(thing: str) -> str:
    return f"{'fewer' if thing in _COUNTED else 'less'} {_many(thing)}"


def _many(thing: str) -> str:
    return f"{thing}s" if thing in _COUNTED else thing
