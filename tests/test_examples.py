"""The examples under results/: they verify, what people read is drawn from what is signed, and they name nobody."""

from __future__ import annotations

import base64
import gzip
import json
import re
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from bench.environment import machine_id, node_id
from bench.profile import load_profile
from bench.units import DAY_NS, utc_ns
from certify.documents.statement import CapacityStatement
from certify.statement.describe import judge_record
from certify.statement.package import opened as unpacked
from tests.examples import city, cpu, fleet
from tests.examples.shown import (
    PAGE,
    PDF,
    PUBLIC_KEY,
    README,
    RECORDS,
    REPORT,
    RESULTS,
    ROOT,
    STATEMENT,
    opened,
    page_of,
    petaseal,
    without_screens,
)

MOST_BYTES = {city.PACKAGE: 2_000_000, "all": 6_000_000, "picture": 200_000}
AGAIN = "it is no longer what is committed: make examples (or only: python -m tests.examples --draw)"
PICTURES = [
    f"{name}-{what}.png"
    for name in ("example-2000p", "example-cpu")
    for what in ("page", "paper", "report", "terminal")
]
# An address of a network or of an adapter, a place in a file system, an address of a person.
PRIVATE = re.compile(
    rb"\b(?:10|127|172|192)\.\d{1,3}\.\d{1,3}\.\d{1,3}\b|\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"
    rb"|/(?:tmp|root|home|work|usr|var|mnt|opt)/|(?<![\w.])[\w.]+@[\w-]+\.\w+",
    re.I,
)
FOLDERS = (city.FOLDER, cpu.FOLDER)


def files(folder: Path) -> list[Path]:
    """Return all files of an example."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


@cache
def verified(example: str) -> list[str]:
    """Return what a verifier prints of an example, at the moment that its README names."""
    if example == city.FOLDER.name:
        words: tuple[str, ...] = (
            str(city.FOLDER / city.PACKAGE),
            "--accept-simulated",
            "--require",
            "recomputed",
            "--at",
            city.AT,
        )
    else:
        given = ("--samples", str(cpu.MEASURED), "--require", "audited")
        words = (str(cpu.FOLDER), *given, "--at", cpu.checked_at())
    return petaseal("verify", *words, "--public-key", str(RESULTS / example / PUBLIC_KEY))


# What is signed
@pytest.mark.parametrize(("folder", "level"), [(city.FOLDER, "recomputed"), (cpu.FOLDER, "audited")])
def test_an_example_is_accepted_by_a_verifier(folder: Path, level: str) -> None:
    assert verified(folder.name)[0].startswith(f"ACCEPTED: level {level}")


def test_the_simulated_statement_is_refused_where_nobody_accepts_simulation() -> None:
    words = ("verify", str(city.FOLDER / city.PACKAGE), "--public-key", str(city.FOLDER / PUBLIC_KEY), "--at", city.AT)
    petaseal(*words, status=1)


def test_an_example_is_refused_under_the_key_of_the_other() -> None:
    words = ("verify", str(cpu.FOLDER), "--public-key", str(city.FOLDER / PUBLIC_KEY), "--at", cpu.checked_at())
    petaseal(*words, status=1)


def test_the_simulated_centre_is_what_its_readme_tells() -> None:
    of = city.published()
    (counted,) = of.statement.inventory
    assert of.statement.simulated
    assert (counted.model, counted.devices) == (fleet.MODEL, (fleet.NODES - 1) * fleet.DEVICES)
    assert (len(of.statement.campaign.nodes), of.statement.records) == (fleet.NODES, fleet.NODES - 1)
    (lost,) = of.statement.not_counted
    assert lost.codes == ("node-lost",)
    assert of.diagnosis.names[lost.node_id] == fleet.LOST
    (slow,) = of.diagnosis.diagnosis.slow_groups
    assert slow.group == fleet.SLOW_RACK
    (scale,) = (one for one in of.rehearsal.rehearsed if one.condition == "scale-2000p")
    assert [one.verdict for one in scale.bases] == ["not_met", "not_met", "insufficient_evidence"]
    (new,) = (one for one in of.statement.verdicts if one.condition == "newly-added")
    assert new.growth is not None
    assert new.growth.still_present_devices == len(fleet.OLD_NODES) * fleet.DEVICES
    assert new.growth.baseline_devices > new.growth.still_present_devices


def test_the_processor_was_measured_by_the_rules_and_counts_nothing() -> None:
    record = cpu.measured()
    assert record.identities_replaced
    assert not any(model.simulated for model in record.models)
    assert record.campaign is not None
    assert record.profile == "standard"
    for explained in judge_record(record, record.campaign, load_profile("standard")).values():
        assert [code for code, effect in explained.effects.items() if effect == "void"] == [cpu.REPLACED]
    statement = opened("capacity-statement", (cpu.FOLDER / STATEMENT).read_bytes()).predicate
    assert statement.classes[0].counted.devices == 0
    assert (cpu.FOLDER / RECORDS).read_bytes().strip() == next(
        cpu.MEASURED.glob("*.record.dsse.json")
    ).read_bytes().strip()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_moment_of_the_check_lies_where_the_statement_is_valid(folder: Path) -> None:
    at = city.AT if folder == city.FOLDER else cpu.checked_at()
    issue = statement_of(folder).issue
    assert issue.issued_at < at < issue.valid_until
    assert utc_ns(at) - utc_ns(issue.issued_at) < 3 * DAY_NS


def statement_of(folder: Path) -> CapacityStatement:
    if folder == city.FOLDER:
        return city.published().statement
    statement: CapacityStatement = opened("capacity-statement", (folder / STATEMENT).read_bytes()).predicate
    return statement


# What people read
def test_the_page_is_drawn_from_the_signed_statement() -> None:
    assert plain(page_of(cpu.FOLDER / STATEMENT)) == plain((cpu.FOLDER / PAGE).read_text()), AGAIN
    with unpacked(city.FOLDER / city.PACKAGE) as members:
        assert plain(page_of(members / STATEMENT)) == plain((city.FOLDER / PAGE).read_text()), AGAIN
        for name in (PAGE, PDF):
            assert (members / name).read_bytes() == (city.FOLDER / name).read_bytes(), AGAIN


def plain(page: str) -> str:
    """Return a page without the functions and tests behind its codes, which move with every change of the source."""
    return re.sub(r"<code>(?:certify|bench)\.[\w.]+</code>|<code>tests/[^<]+</code>", "", page)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_paper_holds_the_signed_statement_and_is_drawn_the_same_again(folder: Path, tmp_path: Path) -> None:
    given = city.FOLDER / city.PACKAGE if folder == city.FOLDER else folder / STATEMENT
    petaseal("report", "pdf", str(given), "--out", str(tmp_path / PDF))
    assert (tmp_path / PDF).read_bytes() == (folder / PDF).read_bytes(), AGAIN
    subprocess.run(["pdfdetach", "-saveall", "-o", str(tmp_path), str(folder / PDF)], check=True, capture_output=True)
    with unpacked(given) as place:
        signed = (place / STATEMENT if place.is_dir() else place).read_bytes()
    assert (tmp_path / STATEMENT).read_bytes() == signed
    key, at = ("--public-key", str(folder / PUBLIC_KEY)), city.AT if folder == city.FOLDER else cpu.checked_at()
    petaseal("verify", str(folder / PDF), *key, "--require", "page", "--accept-simulated", "--at", at)


def test_the_report_of_the_processor_is_drawn_from_its_record(tmp_path: Path) -> None:
    petaseal("report", "html", str(cpu.MEASURED), "--out", str(tmp_path / REPORT))
    assert (tmp_path / REPORT).read_bytes() == (cpu.FOLDER / REPORT).read_bytes(), AGAIN


@pytest.mark.long
def test_the_report_of_the_centre_is_drawn_from_its_records(tmp_path: Path) -> None:
    petaseal(*city.report_words(city.laid_out(tmp_path)), "--out", str(tmp_path / REPORT))
    assert (tmp_path / REPORT).read_bytes() == (city.FOLDER / REPORT).read_bytes(), AGAIN


def test_the_diagnosis_is_drawn_from_the_records(tmp_path: Path) -> None:
    words = ("campaign", "diagnose", str(city.laid_out(tmp_path)), "--public-key", str(city.FOLDER / PUBLIC_KEY))
    petaseal(*words, "--out", str(tmp_path / "diagnosis"))
    for path in (city.FOLDER / "diagnosis").iterdir():
        assert (tmp_path / "diagnosis" / path.name).read_bytes() == path.read_bytes(), AGAIN


@pytest.mark.parametrize("example", [city, cpu], ids=["2000p", "cpu"])
def test_the_readme_says_what_the_documents_say(example: ModuleType) -> None:
    committed = (example.FOLDER / README).read_text()
    assert without_screens(committed) == without_screens(example.readme()), AGAIN


@pytest.mark.parametrize("example", [city, cpu], ids=["2000p", "cpu"])
def test_the_readme_names_every_file(example: ModuleType) -> None:
    text = (example.FOLDER / README).read_text()
    named = set(re.findall(r"^\| \[`([^`]+)`\]", text, re.M))
    assert named == set(example.FILES)
    assert all((example.FOLDER / name).exists() for name in named)
    tops = {path.relative_to(example.FOLDER).parts[0] for path in files(example.FOLDER)}
    assert tops - {name.split("/")[0] for name in named} <= {README, "rehearsal.json"}


@pytest.mark.parametrize("example", [city, cpu], ids=["2000p", "cpu"])
def test_what_a_screen_shows_is_said_by_this_version_too(example: ModuleType) -> None:
    text = (example.FOLDER / README).read_text()
    shown, paper = re.findall(r"```console\n\$ petaseal verify .*?\n(.*?)```", text, re.S)
    figures = set(re.findall(r"\d[\d,]*\.\d{3} (?:[PTG]FLOPS)", shown))
    assert shown.splitlines()[0] == verified(example.FOLDER.name)[0]
    assert paper.startswith("ACCEPTED")
    assert figures <= set(re.findall(r"\d[\d,]*\.\d{3} (?:[PTG]FLOPS)", "\n".join(verified(example.FOLDER.name)))), (
        AGAIN
    )


# Size, and what is private
def test_the_examples_are_small() -> None:
    sizes = {path: path.stat().st_size for folder in FOLDERS for path in files(folder)}
    assert sizes[city.FOLDER / city.PACKAGE] <= MOST_BYTES[city.PACKAGE]
    assert sum(sizes.values()) <= MOST_BYTES["all"]
    for name in PICTURES:
        assert (ROOT / "docs" / "images" / name).stat().st_size <= MOST_BYTES["picture"]


def texts(path: Path) -> Iterator[bytes]:
    """Yield all that a file says: unpacked, and with what is signed in it decoded."""
    content = path.read_bytes()
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                yield from decoded(file.read())
    elif path.suffix == ".gz":
        yield gzip.decompress(content)
    elif path.suffix == ".pdf":
        yield content
        yield subprocess.run(["pdftotext", str(path), "-"], capture_output=True, check=True).stdout
    else:
        yield from decoded(content)


def decoded(content: bytes) -> Iterator[bytes]:
    for line in content.splitlines():
        signed = line.startswith(b'{"payload":')
        yield base64.b64decode(json.loads(line)["payload"]) if signed else line


def test_the_examples_name_no_machine_place_or_person() -> None:
    here = [name.encode() for name in (socket.gethostname(), machine_id(), node_id(), str(ROOT)) if len(name) > 3]
    seen = 0
    for path in (file for folder in FOLDERS for file in files(folder)):
        for text in texts(path):
            seen += 1
            assert b"PRIVATE KEY" not in text, path
            found = [name for name in here if name in text] + PRIVATE.findall(text if path.suffix != ".pdf" else b"")
            assert not found, (path, found)
    assert seen > fleet.NODES  # all of the records, opened


@pytest.mark.parametrize("secret", [b"see 10.0.0.7", b"ab:cd:ef:01:23:45", b"in /home/me/x", b"me@example.org"])
def test_a_place_or_an_address_would_be_noticed(secret: bytes) -> None:
    assert PRIVATE.search(secret)
