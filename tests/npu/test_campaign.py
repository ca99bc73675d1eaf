"""A campaign of two nodes through the real torch_npu, from key to signed statement, at the standard grade.

The host computes the products, so the rate is far below a 910B2's; what counts is every step on the way. Both nodes are
this machine, with one of its two processors each.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import Shape
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.documents.statement import CapacityStatement, StepLine
from tests.bad_input.command import Answer, started
from tests.certify.measured import centre_yaml
from tests.fake_ascend import npu
from tests.npu.test_run import state

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
NODES = {"east": "n1", "west": "n2"}
POOLS = [{"pool": pool, "class": "intelligent", "nodes": [node], "devices": "all"} for pool, node in NODES.items()]


# What `chronyc -c tracking` prints where the clock is synchronised: without it no node's figure counts (R10).
TRACKING = "A9FEA97B,192.0.2.123,3,1767225600.1,-0.000002,0.000001,0.000003,-7.5,0.001,0.02,0.0012,0.0009,64.3,Normal"


def chrony(folder: Path) -> Path:
    """Put a chronyc into a folder, and return the folder."""
    folder.mkdir()
    (folder / "chronyc").write_text(f"#!/bin/sh\necho '{TRACKING}'\n")
    (folder / "chronyc").chmod(0o755)
    return folder


def profile_file(folder: Path) -> Path:
    """Write the standard profile with a short warm-up and a shape for a host of few cores."""
    smoke = load_profile("smoke")
    profile = replace(
        load_profile("standard"),
        profile="standard-on-a-host",
        measured={"intelligent": ("fp16",)},
        warmup_ns=10_000_000_000,
        steady_state=smoke.steady_state,  # other work on the machine is no trend of a processor
        busy=smoke.busy,
        shapes={"fp16": (Shape(m=512, n=512, k=512),)},
    )
    file = folder / "profile.yaml"
    file.write_text(yaml.safe_dump(msgspec.to_builtins(profile)))
    return file


def test_both_processors_count_on_their_rating(tmp_path: Path) -> None:
    env = state(tmp_path, npu(0) + npu(1), PATH=f"{chrony(tmp_path / 'bin')}:{os.environ['PATH']}")
    centre, key, campaign, out = (tmp_path / name for name in ("centre.yaml", "operator.pem", "c1", "out"))
    centre.write_text(yaml.safe_dump(centre_yaml(pools=POOLS), allow_unicode=True))
    own = ("--centre", centre, "--key", key, "--profile", profile_file(tmp_path))

    def done(*args: object) -> Answer:
        running = started(*args, env=env)
        printed, err = running.communicate(timeout=400)
        assert running.returncode == 0, f"{args}\n{printed}\n{err}"
        return Answer(0, printed, err)

    done("keys", "new", "--no-passphrase", "--out", key)
    done("campaign", "create", *own, "--device", "east=npu:0", "--device", "west=npu:1", "--out", campaign)
    done("campaign", "launch", campaign, "--on", "local", "--lead", 3)
    done("campaign", "collect", campaign)
    certified = done("certify", campaign, *own, "--out", out, "--all")
    assert "rating" in certified.out
    file = out / "statement.dsse.json"
    content = file.read_bytes()
    statement: Any = parse_payload(
        "capacity-statement", parse_envelope(content, len(content), file).payload, file
    ).predicate
    assert isinstance(statement, CapacityStatement)
    assert statement.not_counted == ()
    (line,) = statement.classes
    assert line.counted.devices == len(NODES)
    assert line.steps == (
        StepLine(step="rating", devices=len(NODES), certified_mflop_s=line.counted.certified_mflop_s),
    )
    assert line.counted.certified_mflop_s > 0
    given = ("--public-key", f"{key}.pub", "--records", out / "records.jsonl", *own[-2:], "--accept-simulated")
    done("verify", file, *given, "--require", "recomputed")
