"""What the readings of a node cost: CPU time of a look and of a second, and how a slow tool covers a window.

No accelerator is needed: the libraries and the tool are the tests' fakes, so that these are costs of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from bench.devices.base import LocalDevice
from bench.engine.readings import NodeReadings, ReceivedReadings
from bench.record import MINIMUM_WINDOW_NS
from tests.bench.acme import VARIABLE, Acme8, put_tool
from tests.bench.processes import READER, children

SECOND_NS = 10**9
LOOK_LIMIT_MS, SHARE_LIMIT = 5.0, 0.01
LOOKS = 300
NODE_S, TOOL_S = 20.0, 40.0
SLOW_S = 5.4  # of a report of `npu-smi` over eight cards, under a lock
WINDOW_S = 640.0
LEAST_READINGS, MOST_GAP_S = 60, 30.0
ME = (sys.executable, "-m", "tests.perf.telemetry")


def measure() -> None:
    """Print all parts."""
    from tests.fake_nvidia import environment, gpu

    with tempfile.TemporaryDirectory() as folder:
        for part, devices in (("look", 8), ("node", 16)):
            root = Path(folder) / part
            root.mkdir()
            env = environment(root, "".join(gpu(index, pci=f"0:{index + 16:x}") for index in range(devices)))
            subprocess.run([*ME, part], env=env, check=True)
    print(slow_tool())


def look() -> str:
    """Return what one look at all GPUs costs through a library."""
    from bench.devices import load_backend, select_devices

    found = select_devices("cuda")
    watch = load_backend("cuda").watch(found)  # type: ignore[attr-defined]
    for _ in range(3):
        watch.read()
    begun = time.process_time()
    for _ in range(LOOKS):
        watch.read()
    each_ms = (time.process_time() - begun) / LOOKS * 1000
    return f"one look at {len(found)} devices through a library: {each_ms:.2f} ms of CPU (limit {LOOK_LIMIT_MS:g} ms)"


def node() -> str:
    """Return which share of a core the telemetry of a node takes at 1 Hz: of the reader, and of those that receive."""
    from bench.devices import select_devices

    found = select_devices("cuda")
    readings, received = _started(found, SECOND_NS)
    (reader,) = children(marker=READER)
    begun_s, begun_ns = _cpu_s(reader) + time.process_time(), time.monotonic_ns()
    time.sleep(NODE_S)
    used_s = _cpu_s(reader) + time.process_time() - begun_s
    share = used_s * SECOND_NS / (time.monotonic_ns() - begun_ns)
    count = sum(len(one.after(begun_ns)) for one in received)
    readings.stop()
    return (
        f"telemetry of {len(found)} devices at 1 Hz: {share:.2%} of one core, reader and receivers together"
        f" (limit {SHARE_LIMIT:.0%}); {count} readings in {NODE_S:g} s"
    )


def slow_tool() -> str:
    """Return how a tool that takes seconds under a lock covers the window of a certification."""
    with tempfile.TemporaryDirectory() as folder:
        root, tools = Path(folder), Path(folder) / "bin"
        locked = f"flock {root}/lock -c 'sleep {SLOW_S}'; seq 0 7"
        put_tool(tools, locked)
        (root / "acme.json").write_text(json.dumps({"library": "missing"}))
        os.environ |= {VARIABLE: str(root / "acme.json"), "PATH": f"{tools}:{os.environ['PATH']}"}
        from bench.devices import DEVICES

        DEVICES["acme"] = "tests.bench.acme:Acme8"
        found = Acme8(root).look("0") + [Acme8(root).look(str(index))[0] for index in range(1, 8)]
        readings, received = _started(found, SECOND_NS // 2)
        begun_ns = time.monotonic_ns()
        time.sleep(TOOL_S)
        times = [begun_ns, *(sample.at_ns for sample in received[-1].after(begun_ns))]
        readings.stop()
        gap_s = max(b - a for a, b in pairwise(times)) / SECOND_NS
        each_s = (times[-1] - times[0]) / max(1, len(times) - 1) / SECOND_NS
        overlaps = (tools / "overlaps").exists()
    return (
        f"a tool of {SLOW_S} s under a lock, 8 devices: {WINDOW_S / each_s:.0f} readings of each in {WINDOW_S:.0f} s"
        f" (least {LEAST_READINGS}), gap {gap_s:.1f} s (most {MOST_GAP_S:g} s), by {TOOL_S:g} s here;"
        f" {'two processes of it at once' if overlaps else 'never two processes of it'}"
    )


def _started(found: list[LocalDevice], interval_ns: int) -> tuple[NodeReadings, list[ReceivedReadings]]:
    readings = NodeReadings(found, interval_ns)
    readings.start()
    ends = [readings.worker_end(one.device.device) for one in found]
    return readings, [ReceivedReadings(end) for end in ends if end is not None]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    assert MINIMUM_WINDOW_NS["certification"] <= WINDOW_S * SECOND_NS
    print({"look": look, "node": node}[sys.argv[1]]())
