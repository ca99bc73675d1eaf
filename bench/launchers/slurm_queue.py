"""Why a job waits in Slurm's queue, in plain words, and what to do where it would wait for ever: pure functions.

Source: slurm.schedmd.com/job_reason_codes.html, and what squeue of Slurm 22.05 prints.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Meaning(NamedTuple):
    """What one of Slurm's reasons means."""

    means: str | None = None
    advice: str | None = None  # what to do, where the reason never goes away by itself


OTHER_PARTITION = "choose another partition (campaign create --partition), or have its limit raised"
OTHER_ACCOUNT = "choose another with --engine-option --account=... or --qos=..., or have the limit raised"
ADMINISTRATORS = "ask the cluster's administrators"
REASONS = {
    "Resources": Meaning("nodes that it asks for are in use by other jobs"),
    "Priority": Meaning("jobs of higher priority wait before it"),
    "Dependency": Meaning("it waits for another job to end"),
    "BeginTime": Meaning("its earliest start is yet to come"),
    "Reservation": Meaning("its reservation has not begun"),
    "Licenses": Meaning("a licence that it asks for is in use"),
    "Prolog": Meaning("its nodes run the cluster's prolog"),
    "Cleaning": Meaning("it is requeued, and its last attempt is still being cleaned up"),
    "ReqNodeNotAvail": Meaning("a node that it asks for is down, drained or reserved"),
    "Nodes": Meaning("a node that it asks for is down, drained or reserved for another partition"),
    "NodeDown": Meaning("a node that it asks for is down"),
    "FrontEndDown": Meaning("no front end of the cluster is up"),
    "PartitionDown": Meaning("its partition is down", ADMINISTRATORS),
    "PartitionInactive": Meaning("its partition is inactive", ADMINISTRATORS),
    "PartitionNodeLimit": Meaning("its partition does not allow so many nodes", OTHER_PARTITION),
    "PartitionTimeLimit": Meaning("its partition does not allow so long a job", OTHER_PARTITION),
    "PartitionConfig": Meaning("its partition does not have what it asks for", OTHER_PARTITION),
    "JobHeldUser": Meaning("its own user holds it", "let it go with: scontrol release {job}"),
    "JobHeldAdmin": Meaning("an administrator holds it", ADMINISTRATORS),
    "BadConstraints": Meaning("no node has the features that it asks for", "launch again without the option"),
    "DependencyNeverSatisfied": Meaning("it waits for a job that has failed", "abort, and launch again"),
    "ReservationDeleted": Meaning("its reservation was deleted", "abort, and launch again with another reservation"),
    "InvalidAccount": Meaning("its account is not valid", OTHER_ACCOUNT),
    "InvalidQOS": Meaning("its quality of service is not valid", OTHER_ACCOUNT),
    "AccountNotAllowed": Meaning("its partition does not allow its account", OTHER_ACCOUNT),
    "AccountingPolicy": Meaning("a limit of its account or quality of service is reached", OTHER_ACCOUNT),
    "launch": Meaning("Slurm could not launch it, and holds it", "let it go with: scontrol release {job}"),
}
# "QOSMaxJobsPerUserLimit", "AssocGrpGRES", "QOSMaxWallDurationPerJobLimit"
LIMIT = re.compile(r"(?P<whose>QOS|Assoc)(?P<scope>Grp|Max|Min)(?P<what>\w+?)(?P<per>Per[A-Z][a-z]+)?(?:Limit)?")
OWNERS = {"QOS": "its quality of service", "Assoc": "its account"}


def explain(reason: str, job_id: str) -> Meaning:
    """Return what a reason of squeue means; nothing where it is not known.

    Args:
        reason: as squeue prints it, such as "ReqNodeNotAvail, UnavailableNodes:node3".
        job_id: of the job, for what to do.
    """
    key = re.split(r"[ ,_(]", reason.strip().lstrip("("), maxsplit=1)[0]
    known = REASONS.get(key)
    if known is not None:
        return known._replace(advice=known.advice and known.advice.format(job=job_id))
    match = LIMIT.fullmatch(key)
    if match is None:
        return Meaning()
    what = " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", match["what"])).lower()
    # What one job alone exceeds stays exceeded; what a user's or a group's jobs use together becomes free.
    is_final = match["per"] in ("PerJob", "PerNode") or match["scope"] == "Min"
    return Meaning(f"a limit of {OWNERS[match['whose']]} ({what}) is reached", OTHER_ACCOUNT if is_final else None)
