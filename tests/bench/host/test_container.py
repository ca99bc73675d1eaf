"""Signs of a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.host.container import in_container
from tests.bench.devices.test_devices import tree

HOST = {"proc/self/cgroup": "0::/user.slice/user-0.slice/session-3.scope\n"}


@pytest.mark.parametrize(
    ("files", "environ", "inside"),
    [
        ({}, {}, None),
        (HOST, {}, False),
        ({"proc/self/cgroup": "0::/system.slice/docker.service\n"}, {}, False),
        (HOST | {".dockerenv": ""}, {}, True),
        (HOST | {"run/.containerenv": ""}, {}, True),
        (HOST | {"run/systemd/container": "systemd-nspawn"}, {}, True),
        (HOST | {"proc/1/environ": "PATH=/bin\0container=lxc\0"}, {}, True),
        (HOST | {"proc/1/environ": "PATH=/bin\0mycontainer=lxc\0"}, {}, False),
        (HOST, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True),
        ({"proc/self/cgroup": "4:cpu,cpuacct:/docker/0123abcd\n"}, {}, True),
        ({"proc/self/cgroup": "0::/system.slice/docker-0123abcd.scope\n"}, {}, True),
        ({"proc/self/cgroup": "0::/kubepods.slice/kubepods-burstable.slice/x\n"}, {}, True),
        ({"proc/self/cgroup": "0::/user.slice/libpod-0123.scope\n"}, {}, True),
    ],
)
def test_a_container_is_known(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], inside: bool | None
) -> None:
    assert in_container(tree(tmp_path, files), environ) is inside
