"""The kubelets and the Job controller of a cluster in this process: each pod is a process that runs its command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.kube_server import NOW, KubeServer

ENDS = {True: ("succeeded", "Succeeded"), False: ("failed", "Failed")}


class Kubelets:
    """Runs the pods of a cluster, tells of them, and ends those that are deleted.

    Args:
        cluster: whose pods run.
        folder: for what pods print and for their state, each pod's own as an emptyDir is.
        environ: of every pod, beside its manifest's.
    """

    def __init__(self, cluster: KubeServer, folder: Path, environ: Mapping[str, str]) -> None:
        self.cluster, self.folder, self.environ = cluster, folder, environ
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ended = threading.Event()

    def start(self, pod: dict[str, Any]) -> None:
        """Start what a pod's only container is to run: petaseal, wherever its image has it."""
        name, (container,) = pod["metadata"]["name"], pod["spec"]["containers"]
        given = {one["name"]: one.get("value", pod["spec"]["nodeName"]) for one in container["env"]}
        own = {"PETASEAL_STATE": str(self.folder / name), "HOME": str(self.folder / name)}
        self.folder.joinpath(name).mkdir()
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "certify", *container["args"]],
                env={**os.environ, **self.environ, **given, **own},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=Path(__file__).parents[2],
            )
        pod["status"] = {"phase": "Running", "startTime": NOW, "conditions": []}
        self.count(pod, "ready", 1)

    def count(self, pod: dict[str, Any], key: str, by: int) -> None:
        """Count a pod in the status of its Job, and say where it is over."""
        job = self.cluster.objects["jobs"].get(pod["metadata"]["ownerReferences"][0]["name"])
        if job is None:
            return
        status = job["status"]
        status[key] = status.get(key, 0) + by
        if sum(status.get(end, 0) for end, _ in ENDS.values()) == job["spec"]["completions"]:
            kind = "Failed" if status.get("failed") else "Complete"
            status["conditions"] = [{"type": kind, "status": "True"}]

    def watch(self) -> None:
        """Take note of pods that ended and of pods that were deleted, until the cluster does."""
        while not self.ended.wait(0.1):
            with self.cluster.lock:
                for pod in list(self.cluster.objects["pods"].values()):
                    if pod["metadata"]["name"] not in self.processes:
                        self.start(pod)
                for name, process in self.processes.items():
                    there = self.cluster.objects["pods"].get(name)
                    if there is None and process.poll() is None:
                        os.killpg(process.pid, signal.SIGTERM)
                    elif there is not None and there["status"]["phase"] == "Running" and process.poll() is not None:
                        key, phase = ENDS[process.returncode == 0]
                        there["status"]["phase"] = phase
                        self.count(there, "ready", -1)
                        self.count(there, key, 1)

    def said(self, pod: str) -> str:
        """Return what a pod printed."""
        return (self.folder / f"{pod}.log").read_text()


@contextmanager
def running(cluster: KubeServer, folder: Path, environ: Mapping[str, str]) -> Iterator[Kubelets]:
    """Run a cluster's pods; at the end all of them are killed."""
    folder.mkdir()
    kubelets = Kubelets(cluster, folder, environ)
    thread = threading.Thread(target=kubelets.watch, daemon=True)
    thread.start()
    try:
        yield kubelets
    finally:
        kubelets.ended.set()
        thread.join(timeout=10)
        for process in kubelets.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
