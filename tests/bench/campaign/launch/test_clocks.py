"""Clocks that are seconds off, with real processes: named by `check`, refused by `launch`, and worth 0 to `verify`."""

from __future__ import annotations

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.record import encode, write_atomic
from bench.record.closing import Closing
from bench.record.folder import Folder, read_question
from bench.record.status import Question
from bench.scenario import SCENARIO_VARIABLE
from bench.units import utc_text
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.documents.statement import CapacityStatement
from tests.bad_input.command import petaseal, process
from tests.bench.test_run import quick
from tests.certify.measured import centre_yaml

AHEAD_S = {"a1": 0, "a2": 5, "a3": -5, "a4": 5}
DISOBEYS = ("a3", "a4")  # measure although the start refuses them
BOUND_NS = 1000  # that every node states
# Read by Python itself when a process of a node begins: all clocks of that node are off, those of its workers too.
SITE = """\
import os, sys
given = sys.orig_argv
if "--node" in given:
    os.environ["TEST_NODE"] = given[given.index("--node") + 1]
name = os.environ.get("TEST_NODE")
if ahead_ns := int({ahead}.get(name, 0) * 1e9):
    from bench.clock import SystemClock
    right_ns = SystemClock.utc_ns
    SystemClock.utc_ns = lambda self: right_ns(self) + ahead_ns
if name in {disobeys} and "--check" not in given and "join" in given:
    from bench.campaign.node.join import AgreedStart
    AgreedStart._refused = property(lambda self: None, lambda self, why: None)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a campaign of four nodes on this machine, of which three have wrong clocks."""
    root = tmp_path_factory.mktemp("clocks")
    pool = {"pool": "main", "class": "intelligent", "nodes": list(AHEAD_S), "devices": "all"}
    (root / "centre.yaml").write_text(yaml.safe_dump(centre_yaml(pools=[pool]), allow_unicode=True))
    (root / "site").mkdir()
    (root / "site" / "sitecustomize.py").write_text(SITE.format(ahead=AHEAD_S, disobeys=DISOBEYS))
    script = {"cache_bytes": 2**18, "clock_uncertainty_ns": BOUND_NS, "default": {"rate_gflop_s": {"fp16": 700}}}
    (root / "scenario.yaml").write_text(yaml.safe_dump(script))
    assert petaseal("keys", "new", "--out", root / "operator.pem", "--no-passphrase").status == 0
    create = ("campaign", "create", "--centre", root / "centre.yaml", "--key", root / "operator.pem")
    what = ("--profile", quick(root), "--precision", "fp16", "--device", "main=fake:1", "--out", root / "c")
    assert petaseal(*create, *what).status == 0
    return root


def environment(place: Path) -> dict[str, str]:
    own = {"PETASEAL_STATE": str(place / "state"), SCENARIO_VARIABLE: str(place / "scenario.yaml")}
    return {**os.environ, **own, "PYTHONPATH": str(place / "site")}


def off_s(text: str, name: str) -> float:
    """Return by how many seconds a node's clock is said to be off at least; above 0 is ahead."""
    found = re.search(
        rf"{name}: (?:not to measure: )?its clock is at least ([0-9.]+) s (ahead of|behind) the coordinator's", text
    )
    assert found is not None, text
    return float(found[1]) * (1 if found[2] == "ahead of" else -1)


def test_a_check_names_the_nodes_whose_clocks_differ(place: Path) -> None:
    answer = process("campaign", "check", place / "c", "--on", "local", "--json", env=environment(place))
    problems = "\n".join(json.loads(answer.out)["problems"])
    assert answer.status == 1
    assert off_s(problems, "a3") < -1  # it may answer late on a busy machine
    assert "a1: its clock" not in problems
    assert "would be refused (clock-differs)" in problems
    assert "chronyc tracking" in problems
    for name in ("a2", "a4"):  # a folder that was slow just then hides what is ahead
        assert f"{name}: its clock" not in problems or 0 < off_s(problems, name) <= 5


def test_a_node_that_is_checked_again_waits_for_a_new_question(place: Path) -> None:
    folder = Folder(place / "c")
    (a1,) = (node.node_id for node in folder.roster().nodes if node.name == "a1")
    write_atomic(folder.clock_file, encode(Question(70, utc_text(time.time_ns()), None)))  # of the check before
    folder.status_file(a1).unlink(missing_ok=True)
    join = ("campaign", "join", folder.root, "--node", "a1", "--check")
    with ThreadPoolExecutor() as pool:
        node = pool.submit(process, *join, env=environment(place))
        while (status := folder.status(a1)) is None or status.state == "arrived":
            assert not node.done(), node.result()
            time.sleep(0.05)
        time.sleep(2.5)  # the coordinator looks every 2 s
        write_atomic(folder.clock_file, encode(Question(71, utc_text(time.time_ns()), (a1,))))
        assert node.result().status == 0
    told = folder.status(a1)
    assert told is not None
    assert told.clock is not None
    assert told.clock.round == 71


@pytest.fixture(scope="module")
def launched(place: Path) -> Any:
    return process(
        "campaign", "launch", place / "c", "--on", "local", "--lead", "10", "--least", "main=1", env=environment(place)
    )


def test_a_launch_refuses_them_before_the_start_and_says_by_how_much(place: Path, launched: Any) -> None:
    folder = Folder(place / "c")
    ids = {node.name: node.node_id for node in folder.roster().nodes}
    start = folder.started()
    assert start is not None
    assert set(start.refused) == {ids[name] for name in ("a2", "a3", "a4")}
    assert (start.ready, launched.status) == (1, 1)
    for name, ahead_s in AHEAD_S.items():
        if ahead_s:
            off = off_s(launched.err, name)
            assert 1 < abs(off) <= 5
            assert off * ahead_s > 0
    assert "see what steers it with chronyc tracking, there and where the campaign is launched" in launched.err
    status = folder.status(ids["a2"])
    assert status is not None
    assert status.state == "failed"
    assert status.message is not None
    assert status.message.endswith("[clock-differs]")
    assert status.message.count("[clock-differs]") == 1
    assert not list(folder.root.rglob(f"{ids['a2']}.record.*"))


def test_a_record_of_such_a_node_that_comes_all_the_same_counts_nothing(place: Path, launched: Any) -> None:
    folder, out = Folder(place / "c"), place / "out"
    ids = {node.node_id: node.name for node in folder.roster().nodes}
    collected = petaseal("campaign", "collect", folder.root, "--json")
    assert json.loads(collected.out)["collected"] == 3, launched.err
    own = ("--key", place / "operator.pem", "--profile", quick(place))
    answer = petaseal("certify", folder.root, *own, "--policy", "guangzhou-2000p", "--out", out)
    assert answer.status == 0, answer.err
    records = ("--records", out / "records.jsonl", "--accept-simulated", "--profile", quick(place))
    key = ("--public-key", place / "operator.pem.pub")
    checked = petaseal("verify", out / "statement.dsse.json", *records, *key, "--require", "recomputed", "--json")
    assert checked.status == 0, checked.out
    content = (out / "statement.dsse.json").read_bytes()
    statement: CapacityStatement = parse_payload(
        "capacity-statement", parse_envelope(content, len(content)).payload
    ).predicate
    void = {ids[one.node_id]: one.codes for one in statement.not_counted if one.device is not None}
    assert {name for name, codes in void.items() if "clock-differs" in codes} == set(DISOBEYS)
    assert statement.classes[0].counted.devices <= 1
    assert isinstance(statement.closing, Closing)
    assert {ids[node] for node in statement.closing.node_id} == set(AHEAD_S)
    assert len(statement.closing.shapes) == 1


def test_a_folder_without_a_question_or_with_half_of_one_asks_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert read_question(folder) is None
    asked = Question(1, utc_text(time.time_ns()), ("a",))
    write_atomic(folder.clock_file, encode(asked))
    assert read_question(folder) == asked
    folder.clock_file.write_bytes(encode(asked)[:-3])
    assert read_question(folder) is None
    folder.clock_file.unlink()
    folder.clock_file.mkdir()
    assert read_question(folder) is None
