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
from bench.launchers.base import EngineNode, Gang, GangState
from bench.launchers.kube_cluster import (
    Job,
    Jobs,
    Node,
    Nodes,
    Pod,
    Pods,
    engine_nodes,
    is_alive,
    is_over,
    is_ready,
    outcome,
    refuse_node,
    why_waiting,
)
from bench.launchers.kube_manifests import (
    Manifest,
    coordinator_manifest,
    gang_manifest,
    job_name,
    parse_gres,
    selector,
    to_yaml,
)
from bench.launchers.kube_options import Options, parse_options, parse_tolerations

T = TypeVar("T")
REQUEST_S = 60  # thousands of nodes are listed in a few seconds
ANSWER_S = 180
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
)


def kubectl(arguments: Sequence[str], given: str | None = None) -> str:
    """Return what kubectl prints.

    Args:
        arguments: of kubectl.
        given: its standard input.

    Raises:
        InputError: kubectl is not installed, the cluster does not answer (``engine-unreachable``), or it refuses.
    """
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
    told = one_line(next((text.strip() for text in reversed(lines) if text.strip()), f"status {done.returncode}"), 300)
    where = " ".join(("kubectl", *(word for word in arguments[:2] if not word.startswith("-"))))
    if any(text in done.stderr for text in UNREACHABLE):
        fix = "ask again later, or see: kubectl cluster-info"
        raise InputError("engine-unreachable", f"the cluster does not answer: {told}", where=where, fix=fix)
    if "(Forbidden)" in done.stderr:
        fix = "ask the cluster's administrator for the rights in docs/kubernetes.md"
        raise InputError("engine-forbidden", f"the cluster refuses: {told}", where=where, fix=fix)
    raise InputError("engine-failed", told, where=where)


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

    def __init__(self, tolerated: Sequence[str] = ()) -> None:
        self._tolerated = parse_tolerations(tolerated)

    def discover(self, partitions: Sequence[str]) -> list[EngineNode]:
        """Return every node that bears one of some labels "KEY=VALUE" (all, if none is given), each once."""
        return engine_nodes(self._nodes(), partitions, self._tolerated)

    def submit(self, gang: Gang) -> None:
        """Apply a gang's Job; one that is over is replaced, one that is not is refused."""
        manifest = gang_manifest(gang)
        options = parse_options(gang.options)
        self._refuse_hopeless(gang, options)
        self._apply(manifest, options)

    def submit_coordinator(
        self, name: str, command: Sequence[str], log_dir: Path, time_limit_s: int, options: Sequence[str]
    ) -> None:
        """Apply the Job of a campaign's coordinator (see `coordinator_manifest`)."""
        self._apply(coordinator_manifest(name, command, log_dir, time_limit_s, options), parse_options(options))

    def state(self, gang: Gang) -> GangState:
        """Return how far a gang is: its Job and the Jobs of its retries, found by their label."""
        jobs = self._jobs(gang)
        if not jobs:
            return GangState("absent")
        main = next((job for job in jobs if job.metadata.name == job_name(gang.name)), jobs[0])
        job_id = f"job/{main.metadata.name}"
        if all(is_over(job) for job in jobs):
            return GangState("ended", job_id, outcome(main))
        counts = main.status
        settled = counts.ready + counts.succeeded + counts.failed
        reason = why_waiting(self._pods(gang)) if settled < main.spec.completions else None
        if not settled:
            return GangState("queued", job_id, reason)
        return GangState("running", job_id, reason, self._lost(gang))

    def retry(self, gang: Gang, nodes: Sequence[str]) -> None:
        """Run the command once more on some nodes: a Job of its own waits there until their old pods are ended."""
        jobs = self._jobs(gang)
        if all(is_over(job) for job in jobs):
            raise InputError("gang-over", "does not run, so that nothing of it can be retried", where=gang.name)
        name = f"{job_name(gang.name)}-r{len(jobs)}"
        manifest = gang_manifest(gang._replace(nodes=tuple(nodes)), name)
        old = [pod.metadata.name for pod in self._pods(gang) if pod.spec.node_name in nodes and is_alive(pod)]
        options = parse_options(gang.options)
        self._apply(manifest, options)
        if old:
            kubectl(("delete", "pods", *namespaced(options), *old, "--ignore-not-found", "--wait=false"))

    def cancel(self, gang: Gang) -> None:
        """Delete a gang's Jobs, which then make no new pods, and its pods, which have 10 s to end."""
        place = namespaced(parse_options(gang.options))
        chosen = ("-l", selector(gang.name), "--ignore-not-found", "--wait=false")
        kubectl(("delete", "jobs,pods", *place, *chosen))

    def describe(self, gang: Gang) -> list[str]:
        """Return the manifest that `submit` would apply, as YAML."""
        return [to_yaml(gang_manifest(gang))]

    def describe_coordinator(
        self, name: str, command: Sequence[str], log_dir: Path, time_limit_s: int, options: Sequence[str]
    ) -> list[str]:
        """Return the manifest that `submit_coordinator` would apply, as YAML."""
        return [to_yaml(coordinator_manifest(name, command, log_dir, time_limit_s, options))]

    def _nodes(self) -> tuple[Node, ...]:
        return read(kubectl(("get", "nodes", "-o", "json")), Nodes).items

    def _jobs(self, gang: Gang) -> tuple[Job, ...]:
        place = namespaced(parse_options(gang.options))
        return read(kubectl(("get", "jobs", *place, "-l", selector(gang.name), "-o", "json")), Jobs).items

    def _pods(self, gang: Gang) -> tuple[Pod, ...]:
        place = namespaced(parse_options(gang.options))
        return read(kubectl(("get", "pods", *place, "-l", selector(gang.name), "-o", "json")), Pods).items

    def _apply(self, manifest: Manifest, options: Options) -> None:
        # On the server's side: the client's would copy the whole manifest into an annotation of at most 256 KiB.
        line = ("apply", *namespaced(options), "--server-side", "--field-manager=petaseal", "-f", "-")
        kubectl(line, to_yaml(manifest))

    def _lost(self, gang: Gang) -> tuple[str, ...]:
        """Return the gang's nodes that are gone or not ready; none where this user may not list nodes."""
        try:
            nodes = self._nodes()
        except InputError as error:
            if error.code == "engine-forbidden":
                return ()
            raise
        alive = {node.metadata.name for node in nodes if is_ready(node)}
        return tuple(name for name in gang.nodes if name not in alive)

    def _refuse_hopeless(self, gang: Gang, options: Options) -> None:
        """Refuse a gang that runs already, or one of whose nodes could never take its pod.

        Raises:
            InputError: as it says.
        """
        jobs = self._jobs(gang)
        if any(not is_over(job) for job in jobs):
            fix = "cancel it first, or go on with it"
            raise InputError("gang-exists", "is in the cluster already", where=job_name(gang.name), fix=fix)
        try:
            nodes = {one.name: one for one in engine_nodes(self._nodes(), (), parse_tolerations(options.toleration))}
        except InputError as error:
            if error.code != "engine-forbidden":  # who may not list nodes is told by the pods why they wait
                raise
        else:
            wanted = parse_gres(gang.gres) if gang.gres else None
            for name in gang.nodes:
                refuse_node(nodes.get(name), name, wanted)
        if jobs:
            place = namespaced(options)
            names = [job.metadata.name for job in jobs]
            kubectl(("delete", "jobs", *place, *names, "--ignore-not-found", f"--timeout={REQUEST_S}s"))


def namespaced(options: Options) -> tuple[str, ...]:
    """Return kubectl's words for the namespace; its own configuration's without the option."""
    return ("-n", options.namespace) if options.namespace else ()
