"""A Kubernetes API server in this process, as far as a real ``kubectl`` asks one for a campaign, with its failures.

It has nodes, Jobs, pods and ResourceSlices, makes the pods of an Indexed Job, prints tables as a real one does (each
row with the object's whole metadata), cuts lists into pages, and notes every request with the bytes of its answer.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]
NOW = "2026-11-30T08:00:00Z"
KINDS = {  # plural -> group and version, kind, whether it lies in a namespace
    "nodes": ("v1", "Node", False),
    "pods": ("v1", "Pod", True),
    "jobs": ("batch/v1", "Job", True),
    "resourceslices": ("resource.k8s.io/v1", "ResourceSlice", False),
}
COLUMNS = {
    "pods": ("Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates"),
    "nodes": ("Name", "Status", "Roles", "Age", "Version", "Internal-IP"),
    "jobs": ("Name", "Status", "Completions", "Duration", "Age"),
    "resourceslices": ("Name", "Node", "Driver", "Pool", "Age"),
}
WIDE = 5  # columns from here on are shown by "-o wide" alone


class Asked(NamedTuple):
    """A request that came, and how long its answer was."""

    method: str
    path: str
    query: dict[str, str]
    status: int
    answer_bytes: int


class Fault(NamedTuple):
    """How requests fail that come next."""

    plural: str
    method: str
    status: int  # 0: the answer is cut off in its middle; -1: none comes in time
    reason: str = ""
    message: str = ""
    times: int = 1_000_000


class KubeServer:
    """The cluster.

    Args:
        page: the most objects in one answer to a list, as far as kubectl asks for pages.
        is_served: whether the group of ResourceSlices is served.
    """

    def __init__(self, page: int = 500, is_served: bool = True) -> None:
        self.page = page
        self.is_served = is_served
        self.objects: dict[str, dict[str, Object]] = {plural: {} for plural in KINDS}
        self.asked: list[Asked] = []
        self.faults: list[Fault] = []
        self.on_pod: Callable[[Object], None] = lambda pod: None
        self.lock = threading.RLock()
        self.version = 1000

    def add(self, plural: str, one: Object) -> Object:
        """Keep an object, with what a server adds to it."""
        with self.lock:
            self.version += 1
            version, kind, namespaced = KINDS[plural]
            meta = one.setdefault("metadata", {})
            meta.setdefault("uid", f"00000000-0000-4000-8000-{self.version:012d}")
            meta.setdefault("creationTimestamp", NOW)
            meta["resourceVersion"] = str(self.version)
            if namespaced:
                meta.setdefault("namespace", "default")
            made = {"apiVersion": version, "kind": kind, **one}
            self.objects[plural][meta["name"]] = made
            return made

    def apply(self, job: Object) -> Object:
        """Keep a Job and make its pods, one for each node that it names, all pending; one that is there stays."""
        if (there := self.objects["jobs"].get(job["metadata"]["name"])) is not None:
            return there
        job.setdefault("status", {})
        made = self.add("jobs", job)
        if made["spec"].get("suspend"):
            return made
        for index, node in enumerate(nodes_of(made)):
            self.on_pod(self.add("pods", pod_of(made, index, node)))
        made["status"] = {"active": made["spec"]["completions"], "ready": 0, "startTime": NOW}
        return made

    def selected(self, plural: str, query: dict[str, str]) -> list[Object]:
        """Return the objects that selectors leave."""
        with self.lock:
            found = list(self.objects[plural].values())
        for text in filter(None, query.get("labelSelector", "").split(",")):
            key, _, value = text.partition("=")
            found = [one for one in found if one["metadata"].get("labels", {}).get(key) == value]
        for text in filter(None, query.get("fieldSelector", "").split(",")):
            path, _, value = text.partition("=")
            found = [one for one in found if str(field(one, path)) == value]
        return found

    def bytes_since(self, mark: int) -> int:
        """Return how many bytes were answered since so many requests, discovery left out."""
        return sum(one.answer_bytes for one in self.asked[mark:] if plural_of(one.path) is not None)


def field(one: Object, path: str) -> Any:
    """Return the value at a path such as "status.phase"."""
    value: Any = one
    for name in path.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    return value


def nodes_of(job: Object) -> list[str]:
    """Return the nodes that a Job's pods may be on; one without a name for each pod where it names none."""
    pod = job["spec"]["template"]["spec"]
    required = pod.get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    for term in (required or {}).get("nodeSelectorTerms", ()):
        for rule in term["matchExpressions"]:
            if rule["operator"] == "In":
                return list(rule["values"])
    return [""] * int(job["spec"]["completions"])


def pod_of(job: Object, index: int, node: str) -> Object:
    """Return a pod of a Job as its controller and the defaults of an API server make it."""
    name = f"{job['metadata']['name']}-{index}"
    spec = copy.deepcopy(job["spec"]["template"]["spec"])
    condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": NOW}
    return {
        "metadata": {
            "name": name,
            "generateName": f"{name}-",
            "labels": {**job["spec"]["template"]["metadata"]["labels"], "batch.kubernetes.io/job-name": name},
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"]}],
            "managedFields": managed(spec),
        },
        "spec": {**spec, "nodeName": node, "dnsPolicy": "ClusterFirst", "priority": 0},
        "status": {"phase": "Pending", "conditions": [condition], "startTime": NOW, "qosClass": "Burstable"},
    }


def managed(spec: Object) -> list[Object]:
    """Return what a server notes of who set which field: a tree of about the fields' names."""

    def tree(value: Any) -> Any:
        return {f"f:{name}": tree(inner) for name, inner in value.items()} if isinstance(value, dict) else {}

    return [{"manager": "petaseal", "operation": "Apply", "time": NOW, "fieldsV1": {"f:spec": tree(spec)}}]


def plural_of(path: str) -> str | None:
    """Return which kind of object a path is about."""
    return next((part for part in path.split("/") if part in KINDS), None)


def cells(plural: str, one: Object) -> list[str]:
    """Return a row of a table, as a real server words it."""
    name, status = one["metadata"]["name"], one.get("status", {})
    if plural == "nodes":
        is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
        words = ["Ready" if is_ready else "NotReady"]
        words += ["SchedulingDisabled"] if one.get("spec", {}).get("unschedulable") else []
        return [name, ",".join(words), "<none>", "12d", "v1.32.4", "10.0.0.5"]
    if plural == "pods":
        waiting = [s["state"]["waiting"] for s in status.get("containerStatuses", ()) if "waiting" in s["state"]]
        text = waiting[0]["reason"] if waiting else status.get("phase", "Unknown")
        ready = "1/1" if status.get("phase") == "Running" else "0/1"
        node = one["spec"].get("nodeName") or "<none>"
        return [name, ready, text, "0", "2m3s", "<none>", node, "<none>", "<none>"]
    if plural == "resourceslices":
        return [name, one["spec"].get("nodeName", ""), one["spec"]["driver"], "pool", "1d"]
    return [name, "Running", "0/4", "2m", "2m"]


def table(plural: str, found: list[Object], more: Object) -> Object:
    """Return objects as the table that a server makes for people: each row bears the object's metadata."""
    columns = [
        {"name": name, "type": "string", "format": "", "description": name, "priority": int(index >= WIDE)}
        for index, name in enumerate(COLUMNS[plural])
    ]
    rows = [
        {
            "cells": cells(plural, one),
            "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": one["metadata"]},
        }
        for one in found
    ]
    head = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": more}
    return {**head, "columnDefinitions": columns, "rows": rows}


def status_of(code: int, reason: str, message: str) -> Object:
    """Return an error as an API server writes it."""
    base = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**base, "message": message, "reason": reason, "code": code}


def discovery(path: str, is_served: bool) -> Object | None:
    """Return what a server says of what it has; None for another path."""
    groups = {"batch": "batch/v1"} | ({"resource.k8s.io": "resource.k8s.io/v1"} if is_served else {})
    if path == "/version":
        return {"major": "1", "minor": "32", "gitVersion": "v1.32.4"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        entries = [
            {"name": name, "versions": [own := {"groupVersion": gv, "version": "v1"}], "preferredVersion": own}
            for name, gv in groups.items()
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": entries}
    if path == "/openapi/v3":
        return {"paths": {"apis/batch/v1": {"serverRelativeURL": "/openapi/v3/apis/batch/v1"}}}
    if path == "/openapi/v3/apis/batch/v1":  # from which kubectl learns that the server itself validates
        kind = {"group": "batch", "version": "v1", "kind": "Job"}
        patch = {"x-kubernetes-group-version-kind": kind, "parameters": [{"name": "fieldValidation", "in": "query"}]}
        where = "/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
        return {"openapi": "3.0.0", "info": {"title": "", "version": ""}, "paths": {where: {"patch": patch}}}
    version = {"/api/v1": "v1", **{f"/apis/{gv}": gv for gv in groups.values()}}.get(path)
    if version is None:
        return None
    verbs = ["create", "delete", "get", "list", "patch", "watch"]
    resources = [
        {"name": plural, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": verbs}
        for plural, (gv, kind, namespaced) in KINDS.items()
        if gv == version
    ]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}


class Handler(BaseHTTPRequestHandler):
    """One connection of kubectl."""

    protocol_version = "HTTP/1.1"
    wbufsize = 2**16  # head and body in one packet
    cluster: KubeServer

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def answer(self, code: int, content: Object, cut: bool = False) -> None:
        """Send JSON, or half of it."""
        body = json.dumps(content, separators=(",", ":")).encode()
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.cluster.asked.append(Asked(self.command, parts.path, query, code, len(body)))
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code == 429:
            self.send_header("Retry-After", "0")
        with suppress(BrokenPipeError):  # kubectl waited no longer
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut

    def handle_request(self) -> None:
        """Answer a request, or fail as it is to."""
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        found = discovery(parts.path, self.cluster.is_served)
        if found is not None:
            self.answer(200, found)
            return
        plural = plural_of(parts.path)
        if plural is None or (plural == "resourceslices" and not self.cluster.is_served):
            self.answer(404, status_of(404, "NotFound", "the server could not find the requested resource"))
            return
        fault = self.fault(plural)
        if fault is not None and fault.status == -1:
            time.sleep(3)
        if fault is not None and fault.status > 0:
            self.answer(fault.status, status_of(fault.status, fault.reason, fault.message))
            return
        code, content = self.served(plural, parts.path, parts.query, body)
        self.answer(code, content, cut=fault is not None and fault.status == 0)

    do_GET = do_PATCH = do_POST = do_DELETE = handle_request

    def fault(self, plural: str) -> Fault | None:
        """Return how this request fails, and count it; None where it does not."""
        with self.cluster.lock:
            for index, fault in enumerate(self.cluster.faults):
                paged = fault.reason != "Expired" or "continue=" in self.path
                if (fault.plural, fault.method) == (plural, self.command) and fault.times and paged:
                    self.cluster.faults[index] = fault._replace(times=fault.times - 1)
                    return fault
        return None

    def served(self, plural: str, path: str, query_text: str, body: bytes) -> tuple[int, Object]:
        """Return the answer to a request that does not fail."""
        query = {name: values[0] for name, values in parse_qs(query_text).items()}
        cluster, name = self.cluster, path.rpartition("/")[2]
        there = cluster.objects[plural]
        if self.command in ("PATCH", "POST"):
            return 201, cluster.apply(yaml.safe_load(body))
        if name != plural and name not in there:
            return 404, status_of(404, "NotFound", f'{plural} "{name}" not found')
        if self.command == "DELETE":
            with cluster.lock:
                return 200, there.pop(name)
        if name != plural:
            one = [there[name]]
            return 200, table(plural, one, {}) if "as=Table" in self.headers.get("Accept", "") else one[0]
        return 200, self.listed(plural, query)

    def listed(self, plural: str, query: dict[str, str]) -> Object:
        """Return a list, or the page of it that was asked for, in the form that was asked for."""
        found = self.cluster.selected(plural, query)
        begin = int(query.get("continue") or 0)
        end = begin + min(int(query["limit"]), self.cluster.page) if query.get("limit", "0") != "0" else len(found)
        more: Object = {"resourceVersion": str(self.cluster.version)}
        if end < len(found):
            more["continue"] = str(end)
        if "as=Table" in self.headers.get("Accept", ""):
            return table(plural, found[begin:end], more)
        version, kind, _ = KINDS[plural]
        return {"kind": f"{kind}List", "apiVersion": version, "metadata": more, "items": found[begin:end]}


@contextmanager
def serving(cluster: KubeServer, home: Path) -> Iterator[dict[str, str]]:
    """Serve a cluster, and give the environment in which kubectl asks it.

    Args:
        cluster: to serve.
        home: a folder for kubectl's configuration and cache.
    """
    handler = type("ClusterHandler", (Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": ""}}],
        "current-context": "fake",
    }
    (home / "kubeconfig").write_text(json.dumps(config))
    try:
        yield {"KUBECONFIG": str(home / "kubeconfig"), "HOME": str(home), "KUBECACHEDIR": str(home / "cache")}
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
