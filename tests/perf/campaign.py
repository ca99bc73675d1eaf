"""collect + certify + verify of a whole campaign against the bare loop over the same records, and one status refresh.

Every step is measured in a process of its own, started anew, side by side with the bare loop (`tests.perf.records`).
10,000 nodes take five minutes. 100,000 are measured only where they are asked for: by that an hour, and 4 GB of disk.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import yaml
from msgspec.structs import replace

from bench.profile import load_profile
from bench.record.folder import SHARDS, Folder
from bench.record.roster import EngineNode
from bench.record.status import Published, Status
from bench.units import utc_ns, utc_text
from certify.campaign.candidates import SAMPLES_SUFFIX
from certify.campaign.opening import CreatedCampaign, open_folder
from certify.campaign.workloads import CreateOptions
from certify.documents.kinds import RECORD_SUFFIX
from certify.keys.files import load_private, new_key, public_path
from certify.keys.signers import load_scheme
from tests.bench.fleet import simulate_node
from tests.certify.measured import BEGIN_NS, centre_yaml, of_node, seal_record, verify_request
from tests.perf.records import bare_loop, read_record

DEVICES = 8
NODES = 10_000
ROUNDS = 3
MEGABYTE = 2**20
LIMITS = "wished for: at most 1.5 and 500 MB"


class Cost(NamedTuple):
    """What one step took."""

    wall_s: float
    cpu_s: float  # of the process and its workers
    own_kb: int  # peak memory of the process
    worker_kb: int  # of its largest worker


def lay_out(root: Path, nodes: int, devices: int = DEVICES) -> CreatedCampaign:
    """Lay out a campaign of so many nodes just after its window: records and samples are there, nothing is collected.

    All nodes measured fp16 in the fixed shape; each has devices and a key of its own, and tells that it still measures.
    """
    new_key(root / "operator.pem", None)
    (root / "centre.yaml").write_text(yaml.safe_dump(centre_yaml(), allow_unicode=True))
    profile = replace(load_profile("standard"), profile="fixed-shape")
    opening = CreateOptions(
        str(root / "centre.yaml"),
        profile,
        ("guangzhou-2000p",),
        root / "campaign",
        precisions=("fp16",),
        starts_from=utc_text(BEGIN_NS + 60 * 10**9),
    )
    engine = [EngineNode(f"gpu-{i:06d}", None, f"gpu:{devices}", None, None) for i in range(nodes)]
    opened = open_folder(opening, load_private(root / "operator.pem"), engine, BEGIN_NS - 3600 * 10**9)
    folder, campaign = opened.folder, opened.campaign
    begin = campaign.starts_from
    folder.publish(Published(begin, begin, nodes))
    first = simulate_node({}, devices, profile, ("fp16",), campaign.nodes[0].node_id, campaign)
    samples: dict[Path, Path] = {}  # one file in each shard, and further names of it
    for index, node in enumerate(campaign.nodes):
        key = load_scheme("ed25519").generate()
        record = replace(
            of_node(first.record, index, campaign, key),
            node_id=node.node_id,
            started_at=utc_text(BEGIN_NS - index * 1000),
            ended_at=utc_text(utc_ns(first.record.ended_at) + index * 1000),
        )
        shard = folder.records(node.node_id)
        shard.mkdir(parents=True, exist_ok=True)
        (shard / f"{node.node_id}{RECORD_SUFFIX}").write_bytes(seal_record(record, key, first.samples))
        beside = shard / f"{node.node_id}{SAMPLES_SUFFIX}"
        if shard in samples:
            os.link(samples[shard], beside)
        else:
            beside.write_bytes(first.samples)
            samples[shard] = beside
        folder.write_status(
            Status(node.node_id, "measuring", begin, begin, begin, workload="fp16", phase="window", rate_mflop_s=10**9)
        )
    return opened


def bare(root: Path) -> None:
    """Read, hash, parse and signature-check every record, and nothing else."""
    bare_loop(root / "campaign" / "records")


def collect(root: Path) -> None:
    """Do what ``petaseal campaign collect`` does."""
    from certify.campaign.collect import collect

    assert collect(Folder(root / "campaign")).complete


def certify(root: Path) -> None:
    """Do what ``petaseal certify`` does with a campaign's folder."""
    from certify.statement import issue
    from certify.statement.campaign import of_campaign

    folder = Folder(root / "campaign")
    source = of_campaign(folder.root, None, None, None, ())
    request = issue.IssueRequest(**source._asdict(), keys=(root / "operator.pem",), out=folder.root / "statement")
    assert issue.certify(request).statement.records


def verify(root: Path) -> None:
    """Do what ``petaseal verify`` does with a statement and its records."""
    from certify.verify import verifier as verify

    folder = Folder(root / "campaign")
    report = verify.verify(
        verify_request(
            statement=folder.root / "statement" / "statement.dsse.json",
            public_key=public_path(root / "operator.pem"),
            records=folder.root / "statement" / "records.jsonl",
            profiles=(str(folder.profile),),
            at_ns=time.time_ns(),
            accept_simulated=True,
        )
    )
    assert not report.refused, report.refusal


STEPS: dict[str, Callable[[Path], None]] = {"bare": bare, "collect": collect, "certify": certify, "verify": verify}


def refresher(root: Path) -> Callable[[], None]:
    """Return what one refresh of ``petaseal campaign status --json`` does, in a process that has begun."""
    from bench.campaign.follow import follow
    from bench.campaign.opening import OpenCampaign
    from bench.campaign.show import show_view
    from certify.statement.campaign import parsed_campaign

    opened = OpenCampaign.at(root / "campaign", partial(parsed_campaign, shared=True))

    def refresh() -> None:
        with open(os.devnull, "w") as null, redirect_stdout(null):
            show_view(follow(opened, watch=False), as_json=True)

    return refresh


def status(root: Path) -> dict[str, Any]:
    """Return the seconds of a warm refresh and the files that it opened and folders that it listed."""
    refresh = refresher(root)
    refresh()
    begin = time.process_time()
    refresh()
    cpu_s = time.process_time() - begin
    seen: Counter[str] = Counter()
    base = f"{root}/"

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.scandir", "os.listdir") and str(arguments[0]).startswith(base):
            seen[event] += 1

    sys.addaudithook(count)
    refresh()
    return {"cpu_s": cpu_s, "opened": seen["open"], "listed": seen["os.scandir"] + seen["os.listdir"]}


def file_calls(root: Path) -> int | None:
    """Return how many system calls of one refresh name a path below ``nodes``; None without a working strace."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    trace = root / "strace.txt"
    command = [strace, "-f", "-qq", "-e", "trace=%file", "-o", str(trace), *child("refresh", root)]
    if subprocess.run(command, capture_output=True, check=False, env=environment(root)).returncode:
        return None  # some containers forbid tracing
    wanted = f'"{root}/campaign/nodes'
    with trace.open() as lines:
        return sum(wanted in line for line in lines)


def child(step: str, root: Path) -> list[str]:
    """Return the command that runs one step in a process of its own."""
    # Not with -m: worker processes would import this module too, which no worker of a command does.
    return [
        sys.executable,
        "-c",
        "import sys; from tests.perf.campaign import main; main(*sys.argv[1:])",
        step,
        str(root),
    ]


def environment(root: Path) -> dict[str, str]:
    """Return the environment of a step: modules are compiled once, as they are where petaseal is installed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(root / "pycache")}


def ask(step: str, root: Path) -> Any:
    """Run one step in a process of its own and return what it told."""
    done = subprocess.run(child(step, root), stdout=subprocess.PIPE, text=True, check=True, env=environment(root))
    return json.loads(done.stdout)


def cost(step: Callable[[Path], None], root: Path) -> Cost:
    """Run a step in this process and return what it took."""
    begin, before = time.perf_counter(), cpu_s()
    step(root)
    wall_s, used_s = time.perf_counter() - begin, cpu_s() - before
    own, workers = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall_s, used_s, own.ru_maxrss, workers.ru_maxrss)


def cpu_s() -> float:
    """Return the CPU time of this process and of its workers that have ended, in seconds."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def one_round(root: Path) -> dict[str, Cost]:
    """Run the bare loop and all steps once, one after another."""
    shutil.rmtree(root / "campaign" / "statement", ignore_errors=True)
    return {step: Cost(*ask(step, root)) for step in STEPS}


def ratios(costs: dict[str, Cost]) -> dict[str, float]:
    """Return the wall time of each step and of all of them over that of the bare loop."""
    own = {step: one.wall_s / costs["bare"].wall_s for step, one in costs.items() if step != "bare"}
    return {**own, "all": sum(own.values())}


def told(costs: dict[str, Cost]) -> str:
    """Return one round as a line of text."""
    over = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios(costs).items())
    steps = [one for step, one in costs.items() if step != "bare"]
    cpu = sum(one.cpu_s for one in steps) / costs["bare"].cpu_s
    own, worker = (
        max(sizes) * 1024 // MEGABYTE for sizes in zip(*((s.own_kb, s.worker_kb) for s in steps), strict=True)
    )
    return (
        f"bare loop {costs['bare'].wall_s:.2f} s; over it: {over} (CPU time {cpu:.2f});"
        f" peak memory {own} MB, largest worker {worker} MB"
    )


def measure(sizes: Sequence[int] = (NODES,), rounds: int = ROUNDS) -> None:
    """Print ratios, memory and file operations for campaigns of so many nodes, and how the cost of a record grows."""
    per_record: dict[int, float] = {}
    for nodes in sizes:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            begin = time.perf_counter()
            opened = lay_out(root, nodes)
            record = next((opened.folder.root / "records").rglob(f"*{RECORD_SUFFIX}"))
            samples = record.with_name(record.name.replace(RECORD_SUFFIX, SAMPLES_SUFFIX))
            workloads = ", ".join(str(m.workload) for m in read_record(record).measurements)
            files = f"{record.stat().st_size} bytes, samples of {samples.stat().st_size}, which collect reads too"
            print(
                f"campaign of {nodes} nodes of {DEVICES} devices in {workloads}: records of {files};"
                f" {os.cpu_count()} cores; laid out in {time.perf_counter() - begin:.0f} s; {LIMITS}"
            )
            found = []
            for index in range(rounds):
                costs = one_round(root)
                found.append(sum(one.wall_s for step, one in costs.items() if step != "bare") / costs["bare"].wall_s)
                print(f"  round {index + 1}: {told(costs)}", flush=True)
            per_record[nodes] = median(found)
            show_status(root, nodes)
    first, *others = per_record
    for nodes in others:
        ratio = per_record[nodes] / per_record[first]
        print(f"  collect + certify + verify for each record, {nodes} nodes / {first} nodes: {ratio:.2f}")


def show_status(root: Path, nodes: int) -> None:
    """Print what one refresh of the status takes."""
    found, calls = ask("status", root), file_calls(root)
    named = "no strace" if calls is None else f"{calls / nodes:.3f} for each node"
    print(
        f"  status --json, one refresh in a warm process: {found['cpu_s']:.2f} s of CPU (wished for: 1 s for 10000);"
        f" {found['opened'] / nodes:.3f} files opened for each node, {found['listed']} folders listed (of {SHARDS});"
        f" system calls that name a path below nodes/: {named}"
    )


def main(step: str, folder: str) -> None:
    """Run one step in this process and print what it took as JSON."""
    root = Path(folder)
    if step == "status":
        print(json.dumps(status(root)))
    elif step == "refresh":
        refresher(root)()
    else:
        print(json.dumps(cost(STEPS[step], root)))
