"""Why a gang on Kubernetes waits, and since when: from a table of its waiting pods, one of them, and its Jobs.

Pure. Only a table costs the API server little: for ``-o json``, ``custom-columns`` and ``jsonpath`` alike kubectl takes
whole objects from it, each of which names every node of its Job.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from bench.errors import one_line
from bench.launchers.kube_cluster import Condition, Job, Metadata, is_over

QUEUE = "kueue.x-k8s.io/queue-name"
LONGEST = 300  # letters of a reason


class WaitingState(msgspec.Struct, frozen=True):
    """Why a container does not run."""

    reason: str = ""
    message: str = ""


class ContainerState(msgspec.Struct, frozen=True):
    """How a container is."""

    waiting: WaitingState | None = None


class ContainerStatus(msgspec.Struct, frozen=True):
    """A container of a pod."""

    state: ContainerState = ContainerState()


class PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    """How far a pod is."""

    phase: str = ""
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    start_time: str = ""


class Pod(msgspec.Struct, frozen=True):
    """A pod of a gang."""

    metadata: Metadata
    status: PodStatus = PodStatus()


class Wait(NamedTuple):
    """Why something waits."""

    reason: str | None
    since: str | None  # UTC; None where the cluster does not say


def table(text: str) -> list[dict[str, str]]:
    """Return the rows of a table that kubectl prints, each as heading -> value; columns stand 3 apart.

    Args:
        text: with its line of headings.
    """
    headings, *rows = [re.split(r"\s{3,}", line.strip()) for line in text.splitlines() if line.strip()] or [[]]
    return [dict(zip(headings, row, strict=False)) for row in rows]


def ready_nodes(rows: Sequence[dict[str, str]]) -> set[str]:
    """Return the nodes that the cluster hears from, of a table of nodes."""
    return {row["NAME"] for row in rows if "Ready" in row.get("STATUS", "").split(",")}


def example(rows: Sequence[dict[str, str]]) -> str | None:
    """Return the name of a waiting pod that waits as most do; None where none waits."""
    # One pod is read whole, and not all: see above what that would cost the API server.
    usual = Counter(row.get("STATUS", "") for row in rows).most_common(1)
    return next((row["NAME"] for row in rows if usual and row.get("STATUS", "") == usual[0][0]), None)


def why_waiting(rows: Sequence[dict[str, str]], pod: Pod | None) -> Wait:
    """Return why pods wait: the cause of what most of them wait for, and how many wait for something else.

    Args:
        rows: the table of all pods that wait; not empty.
        pod: the one of `example`; None where it no longer exists.
    """
    (status, count), *rarer = Counter(row.get("STATUS", "") for row in rows).most_common()
    cause = Wait(status, None) if pod is None else why_one(pod, status)
    rest = "".join(f"; {number} {text}" for text, number in rarer[:3])
    return Wait(one_line(f"{count} of {len(rows)} waiting pods: {cause.reason}{rest}", LONGEST), cause.since)


def why_one(pod: Pod, status: str) -> Wait:
    """Return why one pod waits.

    Args:
        pod: that waits.
        status: in the words of kubectl's table.
    """
    conditions = {one.type: one for one in pod.status.conditions}
    begun = utc_or_none(pod.status.start_time or pod.metadata.creation_timestamp)
    # The scheduler writes its reason here; once a node is chosen, what holds a pod up stands at its containers.
    placed = conditions.get("PodScheduled")
    if placed is not None and placed.status == "False":
        return Wait(f"{placed.reason}: {placed.message}".strip(": "), utc_or_none(placed.last_transition_time) or begun)
    waiting = next((one.state.waiting for one in pod.status.container_statuses if one.state.waiting), None)
    if waiting is None or waiting.reason in ("", "ContainerCreating", "PodInitializing"):
        return Wait(f"{waiting.reason if waiting and waiting.reason else status}: {creating(pod, conditions)}", begun)
    pull = " (the image is not on the node and cannot be pulled)" if "Image" in waiting.reason else ""
    return Wait(f"{waiting.reason}{pull}: {waiting.message}".strip(": "), begun)


def creating(pod: Pod, conditions: dict[str, Condition]) -> str:
    """Return what a pod that has a node and no container waits for, by its conditions."""
    sandbox = conditions.get("PodReadyToStartContainers")  # of 1.29 and later
    what = "its image is being pulled, or a volume of it is not mounted"
    if sandbox is not None:
        is_up = sandbox.status == "True"
        what = "its image is being pulled" if is_up else "its volumes or its network are not there yet"
    return f"{what}; see: kubectl describe pod {pod.metadata.name}"


def why_job_waits(jobs: Sequence[Job]) -> Wait | None:
    """Return why Jobs have no pods yet; None where each has some, or is over."""
    for job in jobs:
        name, since = job.metadata.name, utc_or_none(job.metadata.creation_timestamp)
        if is_over(job):
            continue
        # Kueue keeps a Job suspended until its queue has room; a suspended Job has no pods that could say why.
        if job.spec.suspend:
            held = next((one for one in job.status.conditions if (one.type, one.status) == ("Suspended", "True")), None)
            queue = job.metadata.labels.get(QUEUE)
            who = f"Kueue's queue {queue} has not admitted it: see: kubectl get workloads" if queue else "resume it"
            return Wait(f"{name} is suspended: {who}", utc_or_none(held.last_transition_time) if held else since)
        if not job.status.active and not job.status.succeeded and not job.status.failed:
            what = f"{name} has no pods: a quota or the namespace's Pod Security level may refuse them"
            return Wait(f"{what}; see: kubectl describe job {name}", since)
    return None


def utc_or_none(text: str) -> str | None:
    """Return a cluster's time (2026-11-30T08:00:00Z) in the one form of UTC texts; None for another text."""
    return f"{text[:-1]}.000000Z" if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text) else None
