"""Limits of control groups: both versions, alone and together, on every group above the process, in containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.host.cgroup import cgroup_mounts, group_paths, read_limits
from tests.bench.devices.test_devices import tree
from tests.bench.host.groups import inside, limited

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "33 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "34 30 0:29 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n"
    "35 30 0:30 / /sys/fs/cgroup/cpuset rw shared:11 - cgroup cgroup rw,cpuset\n"
)
HYBRID = V1 + "36 30 0:31 / /sys/fs/cgroup/unified rw shared:12 - cgroup2 cgroup2 rw\n"
NO_LIMIT = "9223372036854771712"
G = "sys/fs/cgroup"
GIB = 2**30


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "files", "quota_mcpu"),
    [
        ("0::/\n", V2, {}, None),
        ("0::/a/b\n", V2, {f"{G}/a/b/cpu.max": "max 100000"}, None),
        ("0::/a/b (deleted)\n", V2, {f"{G}/a/cpu.max": "250000 100000"}, 2500),
        ("0::/a/b\n", V2, {f"{G}/a/b/cpu.max": "400000 100000", f"{G}/a/cpu.max": "250000 100000"}, 2500),
        ("0::/a/b\n", V2, {f"{G}/a/b/cpu.max": "100000 100000", f"{G}/a/cpu.max": "250000 100000"}, 1000),
        # Slurm: the quota stands on the job, the process in a task of a step.
        (
            "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n",
            V2,
            {
                f"{G}/system.slice/slurmstepd.scope/job_7/step_0/user/task_0/cpu.max": "max 100000",
                f"{G}/system.slice/slurmstepd.scope/job_7/cpu.max": "600000 100000",
            },
            6000,
        ),
        # Version 1: Slurm's, and a quota on the user's group above.
        (
            "4:cpu,cpuacct:/slurm/uid_0/job_5/step_0\n3:memory:/other\n0::/\n",
            V1,
            {
                f"{G}/cpu,cpuacct/slurm/uid_0/job_5/step_0/cpu.cfs_quota_us": "-1",
                f"{G}/cpu,cpuacct/slurm/uid_0/job_5/step_0/cpu.cfs_period_us": "100000",
                f"{G}/cpu,cpuacct/slurm/uid_0/cpu.cfs_quota_us": "150000",
                f"{G}/cpu,cpuacct/slurm/uid_0/cpu.cfs_period_us": "100000",
                f"{G}/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                f"{G}/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            1500,
        ),
        # Both at once: whichever of them has the controller.
        (
            "4:cpu,cpuacct:/job\n0::/user.slice/x.scope\n",
            HYBRID,
            {f"{G}/cpu,cpuacct/job/cpu.cfs_quota_us": "300000", f"{G}/cpu,cpuacct/job/cpu.cfs_period_us": "100000"},
            3000,
        ),
        ("4:cpu,cpuacct:/\n0::/user.slice\n", HYBRID, {f"{G}/unified/user.slice/cpu.max": "50000 100000"}, 500),
        # A pod without a namespace of groups: its own end of the host's path is all that is mounted.
        (
            "0::/kubepods/pod1/c1\n",
            V2.replace(" / /sys", " /kubepods/pod1/c1 /sys"),
            {f"{G}/cpu.max": "1600000 100000"},
            16_000,
        ),
        ("0::/kubepods/pod1/c1\n", V2.replace(" / /sys", " /kubepods/pod1 /sys"), {f"{G}/c1/cpu.max": "1 1"}, 1000),
        # A namespace whose mount or whose process lies above its root.
        ("0::/\n", V2.replace(" / /sys", " /../.. /sys"), {f"{G}/cpu.max": "200000 100000"}, 2000),
        ("0::/../../pod1/c1\n", V2, {f"{G}/pod1/cpu.max": "7 1", f"{G}/pod1/c1/cpu.max": "8 1"}, 7000),
        ("0::/../other\n", V2, {f"{G}/cpu.max": "5 1"}, 5000),
        # Mounted twice: the one that shows more of the path.
        (
            "0::/a/b\n",
            "31 1 0:26 /a/b /elsewhere rw - cgroup2 none rw\n" + V2,
            {"elsewhere/cpu.max": "9 1", f"{G}/a/b/cpu.max": "9 1", f"{G}/a/cpu.max": "2 1"},
            2000,
        ),
        ("0::/a\n", "31 1 0:26 / /c\\040d rw - cgroup2 none rw\n", {"c d/a/cpu.max": "3 2"}, 1500),
        # What no kernel writes.
        ("0::/a\n", V2, {f"{G}/a/cpu.max": "1 0"}, None),
        ("0::/a\n", V2, {f"{G}/a/cpu.max": "x y"}, None),
        ("0::a\nnonsense\n", V2, {f"{G}/a/cpu.max": "1 1"}, None),
        ("0::/a\n", "nonsense\n1 2 - \n", {f"{G}/a/cpu.max": "1 1"}, None),
    ],
)
def test_the_least_quota_over_the_whole_path(
    tmp_path: Path, cgroup: str, mountinfo: str, files: dict[str, str], quota_mcpu: int | None
) -> None:
    assert (
        read_limits(tree(tmp_path, {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo} | files)).quota_mcpu
        == quota_mcpu
    )


@pytest.mark.parametrize(
    ("cgroup", "files", "limit", "free"),
    [
        ("0::/a/b\n", {f"{G}/a/b/memory.max": "max", f"{G}/a/b/memory.current": "5"}, None, None),
        (
            "0::/a/b\n",
            {
                f"{G}/a/b/memory.max": str(6 * GIB),
                f"{G}/a/b/memory.current": str(GIB),
                f"{G}/a/memory.max": str(8 * GIB),
                f"{G}/a/memory.current": str(7 * GIB),  # of others too: here less is left than below the own limit
                f"{G}/a/memory.stat": f"anon 5\ninactive_file {2 * GIB}\nactive_file 7",
            },
            6 * GIB,
            3 * GIB,
        ),
        (
            "3:memory:/slurm/job_5\n",
            {
                f"{G}/memory/slurm/job_5/memory.limit_in_bytes": NO_LIMIT,
                f"{G}/memory/slurm/memory.limit_in_bytes": str(4 * GIB),
                f"{G}/memory/slurm/memory.usage_in_bytes": str(GIB),
            },
            4 * GIB,
            3 * GIB,
        ),
        (  # in a container: the pod's limit is not mounted, but told
            "3:memory:/kubepods/pod1/c1\n",
            {
                f"{G}/memory/memory.limit_in_bytes": NO_LIMIT,
                f"{G}/memory/memory.usage_in_bytes": str(2 * GIB),
                f"{G}/memory/memory.stat": f"cache 1\nhierarchical_memory_limit {3 * GIB}\ntotal_inactive_file {GIB}",
            },
            3 * GIB,
            2 * GIB,
        ),
        ("0::/a\n", {f"{G}/a/memory.max": "5", f"{G}/a/memory.current": "9"}, 5, 0),
    ],
)
def test_the_least_memory_over_the_whole_path(
    tmp_path: Path, cgroup: str, files: dict[str, str], limit: int | None, free: int | None
) -> None:
    mounts = V2 if cgroup.startswith("0") else V1
    read = read_limits(tree(tmp_path, {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mounts} | files))
    assert (read.memory_bytes, read.memory_free_bytes) == (limit, free)


def test_a_machine_without_control_groups(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == (None, None, None)


def test_the_forms_of_the_two_files() -> None:
    paths = group_paths("12:cpu,cpuacct:/a:b/c\n1:name=systemd:/d\n0::/e\n")
    assert paths == {"cpu": "/a:b/c", "cpuacct": "/a:b/c", "name=systemd": "/d", "": "/e"}
    assert next((m.root, m.point, sorted(m.controllers)) for m in cgroup_mounts(HYBRID)) == (
        "/",
        "/sys/fs/cgroup/cpu,cpuacct",
        ["cpu", "cpuacct", "rw"],
    )


SHOW = "from bench.host.cgroup import read_limits; print(*read_limits()[:2])"


def test_a_quota_on_a_real_parent_group() -> None:
    with limited("cpu", {"cpu.max": "70000 100000", "cpu.cfs_quota_us": "70000"}) as group:
        assert inside(group, SHOW).split()[0] == "700"
    assert not group.parent.exists()


def test_a_memory_limit_on_a_real_parent_group() -> None:
    size = 512 * 2**20
    with limited("memory", {"memory.max": str(size), "memory.limit_in_bytes": str(size)}) as group:
        assert inside(group, SHOW).split()[1] == str(size)
    assert not group.parent.exists()
