"""Kubernetes as a launcher, through ``kubectl`` alone: it hands over manifests, reads what the cluster tells, deletes.

Who may do what, and on which cluster, is kubectl's own configuration.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from bench.errors import InputError, one_line
from bench.launchers.base import Gang, GangState
from bench.launchers.kube_cluster import (
    Job,
    Jobs,
    Node,
    Nodes,
    engine_nodes,
    is_over,
    is_whole,
    outcome,
    refuse_node,
    settled,
)
from bench.launchers.kube_manifests import (
    coordinator_manifest,
    gang_jobs,
    gang_manifests,
    job_name,
    remarks,
    selector,
    to_yaml,
)
from bench.launchers.kube_options import Options, parse_options, parse_partition, parse_tolerations
from bench.launchers.kube_pods import Manifest
from bench.launchers.kube_vendors import parse_gres
from bench.launchers.kube_waiting import Pod, Wait, example, ready_nodes, table, why_job_waits, why_waiting
from bench.record.roster import EngineNode

T = TypeVar("T")
REQUEST_S = 60  # thousands of nodes are listed in a few seconds
ANSWER_S = 180
ASKS_EVERY_NS = 30 * 10**9  # a campaign of thousands of nodes is no load for the API server
PENDING = "--field-selector=status.phase=Pending"
SLICE_NODES = "custom-columns=NODE:.spec.nodeName"  # a slice of no one node says <none>
UNREACHABLE = (
    "Unable to connect to the server",
    "was refused - did you specify the right host or port",
    "dial tcp",
    "connection reset",
    "i/o timeout",
    "TLS handshake timeout",
    "context deadline exceeded",
    "Client.Timeout exceeded",
    "unexpected EOF",
    "etcdserver:",
    "(ServiceUnavailable)",
    "(Timeout)",
    "(ServerTimeout)",
    "(TooManyRequests)",
    "(InternalError)",
    "(Expired)",  # a list changed too much between two of its pages
    "http2: client connection lost",
)


def kubectl(arguments: Sequence[str], given: str | None = None) -> str:
    """Return what kubectl prints.

    Args:
        arguments: of kubectl.
        given: its standard input.

    Raises:
        InputError: kubectl is not installed, the cluster does not answer (``engine-unreachable``), or it refuses.
    """
    # kubectl waits without end by default; of the two limits the inner one leaves a message of the server's.
    line = ("kubectl", f"--request-timeout={REQUEST_S}s", *arguments)
    try:
        done = subprocess.run(line, input=given or "", capture_output=True, encoding="utf-8", timeout=ANSWER_S)
    except FileNotFoundError:
        raise InputError(
            "engine-missing",
            "kubectl is not on PATH",
            where="kubernetes",
            fix="install it, or apply the manifests of --dry-run where it is",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("engine-failed", f"cannot be run ({error})", where="kubectl") from None
    except subprocess.TimeoutExpired:
        raise InputError("engine-unreachable", f"did not end within {ANSWER_S} s", where="kubectl") from None
    if done.returncode == 0:
        return done.stdout
    lines = done.stderr.split("\n")  # the last one says what ended it; those before may be its attempts
    said = one_line(next((text.strip() for text in reversed(lines) if text.strip()), f"status {done.returncode}"), 300)
    where = " ".join(("kubectl", *(word for word in arguments[:2] if not word.startswith("-"))))
    if any(text in done.stderr for text in UNREACHABLE):
        fix = "ask again later, or see: kubectl cluster-info"
        raise InputError("engine-unreachable", f"the cluster does not answer: {said}", where=where, fix=fix)
    if "(Forbidden)" in done.stderr:
        fix = "ask the cluster's administrator for the rights in docs/kubernetes.md"
        raise InputError("engine-forbidden", f"the cluster refuses: {said}", where=where, fix=fix)
    raise InputError("engine-failed", said, where=where)


def read(text: str, kind: type[T]) -> T:
    """Return what kubectl printed as JSON.

    Raises:
        InputError: it has another form.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(
            "engine-failed", f"prints what is not understood: {error}", where="kubectl", fix="report its version"
        ) from None


class KubernetesLauncher:
    """The launcher "kubernetes" (``bench.launchers.base.Launcher``).

    Args:
        tolerated: taints that `discover` takes for no problem, as in the option "toleration".
    """

    asks_every_ns = ASKS_EVERY_NS

    def __init__(self, tolerated: Sequence[str] = ()) -> None:
        self._tolerated = parse_tolerations(tolerated)

    def discover(self, partitions: Sequence[str]) -> list[EngineNode]:
        """Return every node that bears one of some labels "KEY=VALUE" (all, if none is given), each once."""
        labels = ["=".join(parse_partition(partition)) for partition in dict.fromkeys(partitions)]
        nodes = [node for label in labels for node in self._nodes(label)] if labels else self._nodes()
        return engine_nodes(nodes, partitions, self._tolerated)

    def submit(self, gang: Gang) -> None:
        """Apply a gang's Jobs; those that are over are replaced, and the first of several where the rest never came."""
        manifests = gang_manifests(gang)
        options = parse_options(gang.options)
        self._refuse_hopeless(gang, options)
        self._apply(manifests, options)

    def submit_coordinator(
        self, name: str, command: Sequence[str], log_dir: Path, time_limit_s: int, options: Sequence[str]
    ) -> None:
        """Apply the Job of a campaign's coordinator (see `coordinator_manifest`); one that is over is replaced."""
        manifest, parsed = coordinator_manifest(name, command, log_dir, time_limit_s, options), parse_options(options)
        place = namespaced(parsed)
        jobs = read(kubectl(("get", "jobs", *place, "-l", selector(name), "-o", "json")), Jobs).items
        if over := [job.metadata.name for job in jobs if is_over(job)]:  # to apply it again would start nothing
            kubectl(("delete", "jobs", *place, *over, "--ignore-not-found", f"--timeout={REQUEST_S}s"))
        self._apply([manifest], parsed)

    def state(self, gang: Gang) -> GangState:
        """Return how far a gang is: its Jobs and those of its retries, which are found by their label.

        A gang is absent too where a submission was cut off after the first of its Jobs: it is to be submitted again.
        Pods are asked for only while one is neither ready nor over, and nodes only while one of these does not wait:
        from the pods of a node that it has lost, the cluster takes that they are ready.
        """
        jobs, names = self._jobs(gang), gang_jobs(gang)
        if not is_whole(jobs, names):
            return GangState("absent")
        main = [job for job in jobs if job.metadata.name in names] or jobs
        job_id = ",".join(f"job/{job.metadata.name}" for job in main)
        if all(is_over(job) for job in jobs):
            return GangState("ended", job_id, outcome(main))
        unsettled = sum(job.spec.completions for job in main) - settled(main)
        if unsettled <= 0:
            return GangState("running", job_id)
        place = namespaced(parse_options(gang.options))
        waiting = table(kubectl(("get", "pods", *place, "-l", selector(gang.name), PENDING)))
        wait = self._wait(waiting, place) or why_job_waits(jobs) or Wait(None, None)
        if not settled(main):
            return GangState("queued", job_id, wait.reason, since=wait.since)
        lost = self._lost(gang) if len(waiting) < unsettled else ()
        return GangState("running", job_id, wait.reason, lost, wait.since)

    def retry(self, gang: Gang, nodes: Sequence[str]) -> None:
        """Run the command once more on some nodes: a Job of its own waits there until their old pods are ended."""
        jobs = self._jobs(gang)
        if all(is_over(job) for job in jobs):
            raise InputError("gang-over", "does not run, so that nothing of it can be retried", where=gang.name)
        name = f"{job_name(gang.name)}-r{len(jobs)}"
        manifests = gang_manifests(gang._replace(nodes=tuple(nodes)), name)
        options = parse_options(gang.options)
        pods = table(kubectl(("get", "pods", *namespaced(options), "-l", selector(gang.name), "-o", "wide")))
        # The STATUS column shows a container's reason in place of the phase, so that both are listed.
        over = ("Completed", "Succeeded", "Failed", "Error", "Evicted", "OOMKilled")
        old = [row["NAME"] for row in pods if row.get("NODE") in nodes and row.get("STATUS") not in over]
        self._apply(manifests, options)
        if old:
            kubectl(("delete", "pods", *namespaced(options), *old, "--ignore-not-found", "--wait=false"))

    def cancel(self, gang: Gang) -> None:
        """Delete a gang's Jobs, which then make no new pods, and its pods, which have 10 s to end."""
        # Jobs before pods, or the controller would replace each pod that is deleted.
        place = namespaced(parse_options(gang.options))
        kubectl(("delete", "jobs,pods", *place, "-l", selector(gang.name), "--ignore-not-found", "--wait=false"))

    def describe(self, gang: Gang) -> list[str]:
        """Return the manifests that `submit` would apply, as YAML, the first with what is to be looked up before."""
        first, *further = gang_manifests(gang)
        return [to_yaml(first, remarks(gang)), *(to_yaml(manifest) for manifest in further)]

    def describe_coordinator(
        self, name: str, command: Sequence[str], log_dir: Path, time_limit_s: int, options: Sequence[str]
    ) -> list[str]:
        """Return the manifest that `submit_coordinator` would apply, as YAML."""
        return [to_yaml(coordinator_manifest(name, command, log_dir, time_limit_s, options))]

    def _nodes(self, label: str | None = None) -> tuple[Node, ...]:
        return read(kubectl(("get", "nodes", *chosen(label), "-o", "json")), Nodes).items

    def _jobs(self, gang: Gang) -> tuple[Job, ...]:
        place = namespaced(parse_options(gang.options))
        return read(kubectl(("get", "jobs", *place, "-l", selector(gang.name), "-o", "json")), Jobs).items

    def _wait(self, waiting: Sequence[dict[str, str]], place: Sequence[str]) -> Wait | None:
        """Return why pods wait, and since when: of thousands one is read whole; None where none waits."""
        if (name := example(waiting)) is None:
            return None
        text = kubectl(("get", "pod", name, *place, "--ignore-not-found", "-o", "json"))
        return why_waiting(waiting, read(text, Pod) if text.strip() else None)

    def _apply(self, manifests: Sequence[Manifest], options: Options) -> None:
        # On the server's side: the client's would copy the whole manifest into an annotation of at most 256 KiB.
        line = ("apply", *namespaced(options), "--server-side", "--field-manager=petaseal", "-f", "-")
        kubectl(line, "".join(to_yaml(manifest) for manifest in manifests))

    def _lost(self, gang: Gang) -> tuple[str, ...]:
        """Return the gang's nodes that are gone or not ready; none where this user may not list nodes."""
        try:
            alive = ready_nodes(table(kubectl(("get", "nodes", *chosen(gang.partition)))))
        except InputError as error:
            if error.code == "engine-forbidden":
                return ()
            raise
        return tuple(name for name in gang.nodes if name not in alive)

    def _allocated_otherwise(self) -> frozenset[str] | None:
        """Return the nodes whose devices DRA gives out, which their status does not count; None where nothing tells."""
        try:
            text = kubectl(("get", "resourceslices.resource.k8s.io", "-o", SLICE_NODES, "--no-headers"))
        except InputError as error:
            if error.code == "engine-forbidden":
                return None
            if "the server doesn't have a resource type" in error.what:
                return frozenset()
            raise
        return frozenset(text.split())

    def _refuse_hopeless(self, gang: Gang, options: Options) -> None:
        """Refuse a gang that runs already, or one of whose nodes could never take its pod.

        Raises:
            InputError: as it says.
        """
        jobs = self._jobs(gang)
        if is_whole(jobs, gang_jobs(gang)) and any(not is_over(job) for job in jobs):
            fix = "cancel it first, or go on with it"
            raise InputError("gang-exists", "is in the cluster already", where=job_name(gang.name), fix=fix)
        try:
            there = engine_nodes(self._nodes(gang.partition), (), parse_tolerations(options.toleration))
        except InputError as error:
            if error.code != "engine-forbidden":  # who may not list nodes is told by the pods why they wait
                raise
        else:
            wanted = parse_gres(gang.gres) if gang.gres else None
            nodes = {one.name: one for one in there}
            bare = wanted is not None and any(name in nodes and nodes[name].gres is None for name in gang.nodes)
            by_dra = self._allocated_otherwise() if bare else frozenset()
            for name in gang.nodes:
                is_unknown = by_dra is None or name in by_dra
                refuse_node(nodes.get(name), name, wanted, gang.partition, is_unknown)
        if jobs:
            place = namespaced(options)
            names = [job.metadata.name for job in jobs]
            kubectl(("delete", "jobs", *place, *names, "--ignore-not-found", f"--timeout={REQUEST_S}s"))


def chosen(label: str | None) -> tuple[str, ...]:
    """Return kubectl's words for the nodes that bear a label "KEY=VALUE"; all of them without one."""
    return ("-l", label) if label else ()


def namespaced(options: Options) -> tuple[str, ...]:
    """Return kubectl's words for the namespace; its own configuration's without the option."""
    return ("-n", options.namespace) if options.namespace else ()
