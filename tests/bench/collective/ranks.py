"""Ranks as processes of this machine, without nodes: ``python -m tests.bench.collective.ranks`` plays scenes.

It reads a list of `Scene` and answers with what each player of each scene was told. It loads torch once and forks all
players: they wait for each other most of the time, so that all scenes are played at once.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from bench.clock import SystemClock
from bench.collective import orders
from bench.collective.part import DeviceOperands, NetworkPart
from bench.record import Device, Workload
from bench.record.network import NetworkWindow, RankFigure
from bench.units import utc_text
from kernels.base import GemmProblem
from tests.network.switch import FABRIC, enter, unplug

MS = 1_000_000
PROBLEM = GemmProblem("gemm-fake", "fp16", 256, 256, 256)
LAUNCH_NS = 5 * MS
BLOCK_NS = 20 * MS
GRACE_NS = 500 * MS
WINDOW_NS = 1000 * MS
JOIN_NS = 1500 * MS
LAST_NS = 25_000 * MS  # for all scenes together
Fault = Literal["die", "hang", "stop", "wrong", "error", "late", "again", "elsewhere", "led-astray", "unplug"]


class Player(msgspec.Struct, frozen=True):
    """One rank; what it does wrong, it does in run C."""

    node: int
    place: int
    fault: Fault | None = None
    interface: str = "lo"
    address: str = "127.0.0.1"
    namespace_pid: int | None = None  # a process in whose network namespace it is


class Scene(msgspec.Struct, frozen=True):
    """Ranks that meet; the first hosts the store."""

    name: str
    players: tuple[Player, ...]
    rails: bool = False
    reduction_ns: int = 6000 * MS  # a busy machine may stand still for seconds


class Told(msgspec.Struct, frozen=True):
    """What a player was told, as far as it came."""

    player: Player
    starts_at: str
    joined: orders.GroupJoined
    figures: tuple[RankFigure, ...] = ()
    sweep: orders.SweepMeasured | None = None
    took_ns: tuple[int, ...] = ()  # each run, from its window's opening to its answer


class TimedProducts:
    """Products that take their time and nothing else (`kernels.base.Prepared`, as far as runs need it)."""

    problem = PROBLEM

    def __init__(self, fault: Fault | None) -> None:
        self.fault = fault
        self.busy_ns = 0
        self.misbehaves = False

    def launch(self, first: int, count: int) -> None:
        if self.misbehaves and first:
            if self.fault == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            if self.fault == "hang":
                time.sleep(3600)
            if self.fault == "unplug":
                unplug(FABRIC)
            if self.fault == "error":
                raise RuntimeError("an illegal memory access")
        self.busy_ns = max(self.busy_ns, time.monotonic_ns()) + count * LAUNCH_NS

    def synchronize(self) -> None:
        time.sleep(max(0, self.busy_ns - time.monotonic_ns()) / 1e9)


class Times(NamedTuple):
    """When a scene is played; UTC, ns."""

    starts_ns: int  # T0

    @property
    def windows(self) -> tuple[NetworkWindow, ...]:
        """Runs A, B and C, a second each."""
        runs: tuple[tuple[Literal["compute", "node", "fabric"], int | None], ...] = (
            ("compute", None),
            ("node", 16384),
            ("fabric", 16384),
        )
        load_ns, made = JOIN_NS + 700 * MS, []
        for run, tokens in runs:
            times = {"load_ns": load_ns, "opens_ns": load_ns + 100 * MS, "closes_ns": load_ns + 100 * MS + WINDOW_NS}
            made.append(NetworkWindow(run=run, tokens=tokens, **times))
            load_ns += WINDOW_NS + 400 * MS
        return tuple(made)


def device_of(player: Player) -> Device:
    """Return the device of a player, as its record would list it."""
    name, uuid = f"fake:{player.place}", f"uuid-{player.node}-{player.place}"
    empty = dict.fromkeys(("serial", "die_id", "pci_address", "parent", "numa_node"))
    return Device(device=name, model=0, uuid=uuid, **empty)


def play(scene: Scene, number: int, file: Path, times: Times) -> Told:
    """Be one rank."""
    player = scene.players[number]
    if player.namespace_pid is not None:
        with Path(f"/proc/{player.namespace_pid}/ns/net").open() as namespace:
            enter(namespace.fileno())
    clock, products = SystemClock(), TimedProducts(player.fault)
    campaign = "c1" if player.fault != "elsewhere" else "c2"
    node_id = f"node-{player.node}"
    order = orders.OpenNetwork(
        workload=Workload("fp16"),
        node=player.node,
        place=player.place,
        node_id=node_id,
        device=device_of(player),
        campaign_sha256=campaign,
        starts_at=utc_text(times.starts_ns),
        block_ns=BLOCK_NS,
        interface=player.interface,
    )
    is_wrong = lambda: products.misbehaves and player.fault == "wrong"  # noqa: E731
    part = NetworkPart(order, DeviceOperands(products, LAUNCH_NS, "fake", "fp16", is_wrong), clock)  # type: ignore[arg-type]
    assert part.open().trouble is None
    if number == 0:
        hosted = part.host(orders.HostStore(player.address, "token"))
        assert hosted.port is not None, hosted.trouble
        where = (player.address, hosted.port)
        there = orders.Rendezvous("c1", order.starts_at, None, node_id, "fake:0", *where, "token")
        draft = file.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(there))
        draft.rename(file)
    while not file.exists():
        time.sleep(0.05)
    there = msgspec.json.decode(file.read_bytes(), type=orders.Rendezvous)
    if player.fault == "again":
        time.sleep(0.5)
    if player.fault == "late":
        time.sleep(max(0, times.starts_ns + JOIN_NS - time.time_ns()) / 1e9 + 0.3)
    if player.fault == "led-astray":  # the place says that it is of its campaign, and the store is another's
        part._order = msgspec.structs.replace(order, campaign_sha256="c2")
        there = msgspec.structs.replace(there, campaign_sha256="c2")
    timing = orders.Timing(times.starts_ns + JOIN_NS, scene.reduction_ns, GRACE_NS)
    joined, figures, took = part.join(orders.JoinGroup(there, timing, scene.rails)), [], []
    for window in times.windows:
        products.misbehaves = window.run == "fabric"
        figures.append(part.run(orders.MeasureRun(window, times.starts_ns)).figure)
        took.append(time.time_ns() - times.starts_ns - window.opens_ns)
    return Told(
        player, order.starts_at, joined, tuple(figures), part.sweep(orders.MeasureSweep((4096, 65536))), tuple(took)
    )


def play_all(scenes: Sequence[Scene], folder: Path) -> dict[str, list[Told | None]]:
    """Play all scenes at once, and return what each player was told; None for one that did not come to its end."""
    import torch.distributed  # noqa: F401 (before the processes part)

    times = Times(time.time_ns() // MS * MS)
    pids = {}
    for scene in scenes:
        for number in range(len(scene.players)):
            answer = folder / f"{scene.name}-{number}"
            pid = os.fork()
            if not pid:
                try:
                    told = play(scene, number, folder / scene.name, times)
                    answer.write_bytes(msgspec.json.encode(told))
                finally:
                    os._exit(0)
            pids[pid] = answer
    until_ns, left = time.monotonic_ns() + LAST_NS, set(pids)
    while left and time.monotonic_ns() < until_ns:
        left -= {pid for pid in left if os.waitpid(pid, os.WNOHANG)[0]}
        faulty = {f"{s.name}-{n}" for s in scenes for n, p in enumerate(s.players) if p.fault in ("hang", "stop")}
        if {pids[pid].name for pid in left} <= faulty:
            break
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    answers = {scene.name: [folder / f"{scene.name}-{n}" for n in range(len(scene.players))] for scene in scenes}
    return {
        name: [msgspec.json.decode(file.read_bytes(), type=Told) if file.exists() else None for file in files]
        for name, files in answers.items()
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as base:
        asked = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Scene])
        sys.stdout.buffer.write(msgspec.json.encode(play_all(asked, Path(base))))
