"""A campaign on the private Slurm as an operator runs it: with the command line alone, from key to statement."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

from bench.profile import load_profile
from bench.record import NodeRecord, Shape
from bench.record.folder import Folder
from bench.record.status import State
from bench.units import utc_ns
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.documents.statement import CapacityStatement
from tests.bad_input.command import Answer, petaseal, process, started
from tests.bench.processes import workers
from tests.slurm.cluster import Cluster, until

N1, N2, N3, N4 = NODES = ("node1", "node2", "node3", "node4")
LEAD_S = 3
# As short as the rules allow (R7).
BRIEF = msgspec.structs.replace(
    load_profile("smoke"),
    profile="brief",
    measured={"intelligent": ("fp16",)},
    warmup_ns=1_500_000_000,
    window_ns=3_500_000_000,
    telemetry_interval_ns=100_000_000,
    shapes={"fp16": (Shape(m=1024, n=1024, k=1024),)},
)
SCENARIO: dict[str, Any] = {
    "default": {"rate_gflop_s": {"fp16": 700}},
    "cache_bytes": 2**20,
    "clock_uncertainty_ns": 1000,
}


class Stated(NamedTuple):
    """What came of a campaign."""

    collected: dict[str, Any]  # as `collect --json` prints it
    statement: CapacityStatement
    records: dict[str, NodeRecord]

    @property
    def not_counted(self) -> dict[tuple[str, str | None], tuple[str, ...]]:
        """Why what is missing counts 0, by node and device."""
        return {(one.node_id, one.device): one.codes for one in self.statement.not_counted}

    @property
    def absent(self) -> dict[str, str]:
        """Why nodes have no record, as it was collected."""
        return {one["node_id"]: one["code"] for one in self.collected["absent"]}

    def counts_exactly(self, good: Iterable[tuple[str, str]]) -> bool:
        """Return whether the statement's sum is that of these devices' figures, and of no other."""
        (line,) = self.statement.classes
        own = [figure(self.records[node], device) for node, device in good]
        return (line.counted.devices, line.counted.certified_mflop_s) == (len(own), sum(own))


class Launch:
    """A launch as a process of its own, and all that it prints."""

    def __init__(self, log: Path, *args: object, env: Mapping[str, str]) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = started(*args, env=env, stdout=file, stderr=subprocess.STDOUT)

    @property
    def said(self) -> str:
        """What it has printed up to now."""
        return self._log.read_text()

    def kill(self) -> None:
        """Lose the launcher, as when its host is switched off."""
        self.process.kill()
        self.process.wait()

    def end(self) -> Answer:
        """Wait for its end."""
        self.process.wait(timeout=120)
        return Answer(self.process.returncode, self.said, "")


class Trial:
    """One centre of the cluster's nodes with its campaigns.

    Args:
        cluster: whose nodes are measured.
        root: an empty folder.
    """

    def __init__(self, cluster: Cluster, root: Path) -> None:
        self.cluster = cluster
        self.root = root
        self.env = {**os.environ, "PETASEAL_STATE": str(root / "state"), "PETASEAL_SCENARIO": str(root / "all.yaml")}
        self.key, self.profile = root / "operator.pem", root / "brief.yaml"
        self.launches: list[Launch] = []
        self.environment: dict[str, dict[str, str]] = {}
        assert petaseal("keys", "new", "--no-passphrase", "--out", self.key).status == 0
        self.script("all")
        self.centre(list(cluster.names))
        self.lasts(BRIEF.window_ns / 1e9)

    def lasts(self, seconds: float) -> None:
        """Write the profile, with a window of so many seconds."""
        profile = msgspec.structs.replace(BRIEF, window_ns=int(seconds * 1e9))
        self.profile.write_text(yaml.safe_dump(msgspec.to_builtins(profile)))

    def centre(self, nodes: str | list[str]) -> None:
        """Write the centre file with the nodes of its only pool, "all" for what the engine has."""
        self.pools({"pool": "ai", "class": "intelligent", "nodes": nodes, "devices": "all"})

    def pools(self, *pools: Mapping[str, Any]) -> None:
        """Write the centre file with some pools."""
        centre = yaml.safe_load((Path(__file__).parents[2] / "configs/centres/demo.yaml").read_text())
        (self.root / "centre.yaml").write_text(yaml.safe_dump({**centre, "centre_id": "test", "pools": list(pools)}))

    def folder(self, name: str = "c1") -> Folder:
        """Return a campaign's folder."""
        return Folder(self.root / name)

    def script(self, name: str, devices: Mapping[str, Any] | None = None, **changes: Any) -> Path:
        """Write what fakes do, "all" for every node that has no script of its own, and return the file."""
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**SCENARIO, "devices": dict(devices or {}), **changes}))
        return path

    def give(self, node: str, devices: Mapping[str, Any] | None = None, **changes: Any) -> None:
        """Give one node a script of its own."""
        self.set(node, PETASEAL_SCENARIO=str(self.script(node, devices, **changes)))

    def set(self, node: str, **variables: str) -> None:
        """Set environment variables of all tasks on a node, beside those that are set already."""
        own = self.environment.setdefault(node, {})
        own.update(variables)
        self.cluster.set_environment(node, own)

    def create(self, *more: object, name: str = "c1", device: str = "fake:1") -> None:
        """Open a campaign."""
        answer = petaseal(
            *("campaign", "create", "--centre", self.root / "centre.yaml", "--key", self.key),
            *("--profile", self.profile, "--device", f"ai={device}", "--out", self.root / name, *more),
        )
        assert answer.status == 0, answer.err

    def launch(self, *more: object, name: str = "c1") -> Launch:
        """Start the launch command."""
        log = self.root / f"launch-{len(self.launches)}.log"
        own = ("--on", "slurm", "--lead", LEAD_S)
        self.launches.append(Launch(log, "campaign", "launch", self.root / name, *own, *more, env=self.env))
        return self.launches[-1]

    def checking(self, *more: object, name: str = "c1") -> Launch:
        """Start the check command."""
        log = self.root / f"launch-{len(self.launches)}.log"
        self.launches.append(Launch(log, "campaign", "check", self.root / name, "--on", "slurm", *more, env=self.env))
        return self.launches[-1]

    def end_launches(self) -> None:
        """Kill every launch that still runs."""
        for launch in self.launches:
            launch.kill()

    def run(self, command: str, *more: object, name: str = "c1") -> Answer:
        """Run another command of the campaign as a process."""
        return process("campaign", command, self.root / name, *more, env=self.env)

    def state(self, node: str, name: str = "c1") -> State | None:
        """Return what a node last told of itself."""
        status = self.folder(name).status(node)
        return None if status is None else status.state

    def reach(self, *states: State, nodes: Collection[str] = (), name: str = "c1") -> None:
        """Wait until all nodes are in one of some states."""
        until(lambda: all(self.state(node, name) in states for node in nodes or self.cluster.names), 60)

    def in_window(self, name: str = "c1") -> None:
        """Wait until a second of the core window has passed."""
        self.after_start(BRIEF.warmup_ns / 1e9 + 1, name)

    def after_start(self, seconds: float, name: str = "c1") -> None:
        """Wait until some time after T0."""
        until(lambda: self.folder(name).started() is not None, 60)
        published = self.folder(name).started()
        assert published is not None
        time.sleep(max(0, (utc_ns(published.starts_at) - time.time_ns()) / 1e9 + seconds))

    def jobs(self, *states: str, name: str = "c1") -> list[str]:
        """Return the numbers of a campaign's jobs in some states, such as "RUNNING"; of all that Slurm remembers."""
        asked = (f"--states={','.join(states or ('all',))}", "--noheader", "--format=%i %j")
        lines = (line.split() for line in self.cluster.run("squeue", *asked).splitlines())
        mark = opened("campaign", self.folder(name).campaign).campaign_id
        return [number for number, job in lines if mark in job]

    def cancel_jobs(self) -> None:
        """Cancel all jobs with Slurm's own command, as an administrator might."""
        self.cluster.run("scancel", f"--user={os.getuid()}")

    def load(self) -> list[int]:
        """Return the processes that put load on a device of this trial's nodes."""
        return sorted(set(workers(str(self.root))) & set(workers("bench.engine.worker")))

    def certify(self, name: str = "c1") -> Answer:
        """Make a statement of what was collected."""
        root = self.root / name
        shutil.rmtree(root / "statement", ignore_errors=True)
        return petaseal(
            *("certify", root / "collected", "--campaign", root / "campaign.dsse.json", "--key", self.key),
            *("--centre", root / "centre.yaml", "--profile", self.profile, "--out", root / "statement"),
        )

    def verify(self, *more: object, name: str = "c1") -> Answer:
        """Verify a statement with its records, as somebody who has the operator's public key."""
        out = self.root / name / "statement"
        return petaseal(
            *("verify", out / "statement.dsse.json", "--records", out / "records.jsonl", "--accept-simulated"),
            *("--public-key", f"{self.key}.pub", "--profile", self.profile, "--require", "recomputed"),
            *more,
        )

    def stated(self, name: str = "c1", complete: bool = True) -> Stated:
        """Collect, certify and verify a campaign, of which every record is there or not."""
        root = self.root / name
        collected = petaseal("campaign", "collect", root, "--json")
        assert collected.status == (0 if complete else 1), collected.err
        for answer in (self.certify(name), self.verify(name=name)):
            assert answer.status == 0, answer.err + answer.out
        return Stated(
            json.loads(collected.out),
            opened("capacity-statement", root / "statement/statement.dsse.json"),
            {path.name.split(".")[0]: opened("node-record", path) for path in (root / "collected").glob("*.record.*")},
        )


def opened(kind: str, path: Path) -> Any:
    """Return what a document says, whoever signed it."""
    envelope = parse_envelope(path.read_bytes(), 2**26, path)
    return parse_payload(kind, envelope.payload, path).predicate


def figure(record: NodeRecord, device: str) -> int:
    """Return the certified rate of one device, MFLOP/s."""
    (found,) = (f for m in record.measurements for f in m.figures() if f.device == device)
    return found.certified_mflop_s


def only(*nodes: str) -> list[tuple[str, str]]:
    """Return the only device of each of some nodes."""
    return [(node, "fake:0") for node in nodes]
