"""A bundle is made, unpacked elsewhere and installed without a network; and what is wrong with one is refused."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from packaging.markers import Marker

from bench.errors import InputError
from certify.offline import bundle, wheels
from certify.offline.wheels import (
    Wheel,
    WheelRequirement,
    WheelTarget,
    holds,
    parse_requirement,
    read_wheel,
    rebuild_wheel,
    runs_on,
)
from tests.bad_input.command import process, started

HERE = os.uname().machine
TARGETS = bundle.targets_of(bundle.MACHINES, [bundle.running_python()])
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "PETASEAL"))}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bundle.MadeBundle:
    """Return a bundle for both platforms, fetched and built."""
    return bundle.make_bundle(tmp_path_factory.mktemp("made") / "b.tar.gz", TARGETS, [], lambda text: None)


@pytest.fixture(scope="module")
def unpacked(made: bundle.MadeBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the one folder of the bundle, unpacked."""
    folder = tmp_path_factory.mktemp("a node")  # with a space in its path
    subprocess.run(["tar", "-xf", str(made.path), "-C", str(folder)], check=True)
    (inside,) = folder.iterdir()
    return inside


@pytest.fixture(scope="module")
def installed(unpacked: Path) -> Path:
    """Return the environment that install.sh makes when it may use nothing but the bundle."""
    done = install(unpacked, "--isolated")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"Next: {unpacked}/venv-{HERE}/bin/petaseal devices"
    assert "torch: none" in done.stdout
    return unpacked / f"venv-{HERE}"


@pytest.fixture
def copied(unpacked: Path, tmp_path: Path) -> Path:
    """Return a copy of the unpacked bundle without an environment; its files are shared, and replaced to be changed."""
    skipped = shutil.ignore_patterns("venv-*")
    return Path(shutil.copytree(unpacked, tmp_path / "copy", ignore=skipped, copy_function=os.link))


def install(folder: Path, *options: object) -> subprocess.CompletedProcess[str]:
    """Run install.sh from another folder, in an environment in which pip may look nowhere."""
    return subprocess.run(
        [folder / "install.sh", *map(str, ("--python", sys.executable, *options))],
        cwd=folder.parent,
        env={**CLEAN, "PIP_NO_INDEX": "1", "PIP_REQUIRE_HASHES": "1"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def replaced(path: Path, content: bytes) -> None:
    """Give a file new content without touching those that share the old one."""
    path.unlink()
    path.write_bytes(content)


def sealed_again(folder: Path) -> None:
    """Write SHA256SUMS anew, as a forger would."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n" for p in files]
    replaced(folder / "SHA256SUMS", "".join(lines).encode())


def a_wheel(folder: Path, name: str, *requires: str, tag: str = "py3-none-any") -> Wheel:
    """Write a wheel that holds nothing, and return it."""
    path = folder / f"{name}-1.0-{tag}.whl"
    told = [f"Requires-Dist: {requirement}\n" for requirement in requires]
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{''.join(told)}"
    with zipfile.ZipFile(path, "w") as content:
        content.writestr(f"{name}-1.0.dist-info/METADATA", metadata)
        content.writestr(f"{name}-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        content.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return read_wheel(path)


@pytest.fixture
def looks_in(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return a patch of an environment in which pip looks nowhere but where PIP_FIND_LINKS says."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return monkeypatch


# The archive
@pytest.mark.long
def test_wheels_of_every_platform_are_there_once(made: bundle.MadeBundle, unpacked: Path) -> None:
    for machine in bundle.MACHINES:
        of_it = [name.split("-")[0] for name in made.wheels if name.endswith(f"{machine}.whl")]
        assert {"numpy", "msgspec", "cryptography", "cffi", "pyyaml"} <= set(of_it)
        assert len(of_it) == len(set(of_it))
    shared = [name.split("-")[0] for name in made.wheels if name.endswith("-any.whl")]
    assert {"petaseal", "pip", "typer", "rich", "jinja2", "packaging"} <= set(shared)
    assert len(shared) == len(set(shared))
    assert not [name for name in made.wheels if name.startswith(("torch", "nvidia", "cupy"))]
    assert sorted(made.wheels) == sorted(path.name for path in (unpacked / "wheels").iterdir())
    pins = (wheels.HOME / "constraints.txt").read_text().splitlines()
    listed = (unpacked / "constraints.txt").read_text().splitlines()
    assert {"typer==0", "cryptography==5"} <= {pin[: pin.index("==") + 3] for pin in set(pins) & set(listed)}


@pytest.mark.long
def test_the_same_wheels_make_the_same_bytes(
    made: bundle.MadeBundle, unpacked: Path, tmp_path: Path, looks_in: pytest.MonkeyPatch
) -> None:
    looks_in.setenv("PIP_FIND_LINKS", (unpacked / "wheels").as_uri())
    (path,) = (unpacked / "wheels").glob("petaseal-*.whl")
    own = read_wheel(path)
    roots = {target: bundle.roots_of(own, target, []) for target in TARGETS}
    fetched = {target: wheels.fetch(own, roots[target], target, tmp_path) for target in reversed(TARGETS)}
    ordered = {target: fetched[target] for target in TARGETS}
    with (tmp_path / "again").open("wb") as file:
        bundle.write_archive(file, unpacked.name, bundle.staged(own, roots, ordered))
    assert bundle.file_sha256(tmp_path / "again") == made.sha256 == bundle.file_sha256(made.path)
    with tarfile.open(made.path) as archive:
        entries = archive.getmembers()
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    assert {(e.uid, e.gid, e.uname, e.gname, e.mtime) for e in entries} == {(0, 0, "", "", bundle.FIXED_TIME_S)}


# Installing it
@pytest.mark.long
def test_petaseal_works_from_it(installed: Path, tmp_path: Path) -> None:
    for arguments, told in (
        (("--help",), "petaseal"),
        (("devices", "--device", "cpu"), "cpu:0"),
        (("run", "--device", "cpu", "--profile", "smoke", "--dry-run", "--out", "x"), "smoke"),
        (("policy", "show", "guangzhou-2000p"), "2000"),
    ):
        done = subprocess.run(
            [installed / "bin" / "petaseal", *arguments],
            cwd=tmp_path,
            env={**CLEAN, "PETASEAL_STATE": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert told in done.stdout


@pytest.mark.long
def test_its_own_wheel_is_rebuilt_from_an_installation(installed: Path, unpacked: Path, tmp_path: Path) -> None:
    code = "import pathlib, sys; from certify.offline.wheels import petaseal_wheel as make; "
    code += "make(pathlib.Path(sys.argv[1]))"
    python = installed / "bin" / "python"
    subprocess.run([python, "-c", code, tmp_path], env=CLEAN, capture_output=True, check=True, cwd=tmp_path)
    (built,) = (unpacked / "wheels").glob("petaseal-*.whl")
    (rebuilt,) = tmp_path.glob("*.whl")
    assert rebuilt.name == built.name
    with zipfile.ZipFile(built) as first, zipfile.ZipFile(rebuilt) as second:
        before, after = ({name: z.read(name) for name in z.namelist()} for z in (first, second))
        assert second.namelist()[-1].split("/")[0].endswith(".dist-info")
    (record,) = (name for name in before if name.endswith("/RECORD"))
    assert sorted(before.pop(record).splitlines()) == sorted(after.pop(record).splitlines())
    assert before == after
    assert {"certify/offline/install.sh", "bench/_configs/reasons.yaml"} <= set(after)


def test_an_installation_that_was_changed_makes_no_wheel(unpacked: Path, tmp_path: Path) -> None:
    from importlib.metadata import PathDistribution

    (built,) = (unpacked / "wheels").glob("petaseal-*.whl")
    with zipfile.ZipFile(built) as content:
        content.extractall(tmp_path / "site")
    (info,) = (tmp_path / "site").glob("*.dist-info")
    found = PathDistribution(info)
    assert rebuild_wheel(found, tmp_path).name == built.name
    changed = tmp_path / "site" / "bench" / "units.py"
    for content_of in (changed.read_bytes() + b"\n", None):
        changed.unlink()
        if content_of is not None:
            changed.write_bytes(content_of)
        with pytest.raises(InputError, match=r"bench/units\.py") as caught:
            rebuild_wheel(found, tmp_path)
        assert caught.value.code == "install-damaged"
    (info / "RECORD").unlink()
    with pytest.raises(InputError, match="no list of its files"):
        rebuild_wheel(found, tmp_path)


@pytest.mark.long
def test_it_reuses_what_the_vendors_python_has_and_brings_petaseal(
    installed: Path, copied: Path, tmp_path: Path
) -> None:
    vendor = tmp_path / "vendor"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", vendor], check=True)
    (site,) = vendor.glob("lib/python*/site-packages")
    for path in installed.glob("lib/python*/site-packages/*"):
        if not path.name.startswith(("petaseal", "bench", "certify", "kernels", "numpy", "msgspec")):
            (site / path.name).symlink_to(path)
    for package in ("torch", "kernels", "bench"):
        (site / package).mkdir()
        (site / package / "__init__.py").write_text("")
    for name, version in (("numpy", "1.99"), ("petaseal", "99"), ("msgspec", "0.1")):
        (site / f"{name}-{version}.dist-info").mkdir()
        (site / f"{name}-{version}.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
    (site / "numpy").mkdir()
    (site / "numpy" / "__init__.py").write_text("")
    done = install(copied, "--python", vendor / "bin" / "python", "--venv", "../here")
    assert done.returncode == 0, done.stderr
    assert f"torch: {site}/torch/__init__.py" in done.stdout
    here = tmp_path.parent / "here"
    code = "import certify, bench, kernels, msgspec, numpy; print(*(m.__file__ for m in "
    code += "(certify, bench, kernels, msgspec, numpy)), sep='\\n')"
    python = here / "bin" / "python"
    told = subprocess.run([python, "-c", code], env=CLEAN, capture_output=True, text=True, check=True, cwd=tmp_path)
    *ours, numpy = told.stdout.splitlines()
    assert {Path(path).is_relative_to(here) for path in ours} == {True}
    assert numpy == str(site / "numpy" / "__init__.py")  # recent enough, and the one that torch was built against
    shutil.rmtree(here)


def test_a_bundle_that_was_changed_is_refused(copied: Path) -> None:
    (numpy,) = (copied / "wheels").glob(f"numpy-*{HERE}.whl")
    original = numpy.read_bytes()
    flipped = bytearray(original)
    flipped[len(flipped) // 2] ^= 1
    for what, content in (("FAILED", bytes(flipped)), ("FAILED", original[:-1]), ("does not hold", None)):
        numpy.unlink()
        if content is not None:
            numpy.write_bytes(content)
        refused(copied, what)
    numpy.write_bytes(original)
    (added := copied / "wheels" / "numpy-99-py3-none-any.whl").write_bytes(b"evil")
    refused(copied, "wheels/ does not hold what SHA256SUMS lists")
    added.unlink()
    replaced(copied / "requirements.txt", b"numpy\n")
    refused(copied, "requirements.txt: FAILED")


def refused(folder: Path, why: str) -> None:
    done = install(folder, "--isolated")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("install.sh: ")
    assert done.stderr.count("\n") == 1
    assert why in done.stderr
    assert not list(folder.glob("venv*"))


@pytest.mark.long
def test_an_installation_that_fails_leaves_nothing(copied: Path) -> None:
    replaced(copied / "requirements.txt", b"not-there\n")
    sealed_again(copied)
    done = install(copied, "--isolated")
    assert done.returncode == 1
    assert "not-there" in done.stderr
    assert done.stderr.endswith("install.sh: pip could not install it; nothing was left behind\n")
    assert not list(copied.glob("venv*"))


def test_a_python_that_it_is_not_for_is_refused(copied: Path, tmp_path: Path) -> None:
    (other := tmp_path / "python").write_text("#!/bin/sh\necho 3.6 sparc\n")
    other.chmod(0o755)
    done = install(copied, "--python", other)
    assert done.returncode == 1
    assert f"and {other} is Python 3.6 on sparc; name another with --python" in done.stderr
    assert f"Python {bundle.running_python()} on aarch64" in done.stderr
    assert "cannot run" in install(copied, "--python", tmp_path / "none").stderr
    (there := copied / "there").mkdir()
    assert "there exists; remove it" in install(copied, "--venv", there).stderr
    assert there.is_dir()
    assert install(copied, "--no-such").returncode == 2


# Making it
def test_a_platform_without_a_wheel_is_named(unpacked: Path, tmp_path: Path, looks_in: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    own = a_wheel(folder, "petaseal", "native>=0.5", "pure")
    a_wheel(folder, "pure")
    a_wheel(folder, "native", tag=f"cp3{TARGETS[0].python[2:]}-abi3-manylinux_2_28_x86_64")
    looks_in.setenv("PIP_FIND_LINKS", str(folder))
    x86, arm = (WheelTarget(machine, TARGETS[0].python) for machine in bundle.MACHINES)
    assert set(wheels.fetch(own, own.requires, x86, tmp_path)) == {"native", "pure"}
    with pytest.raises(InputError) as caught:
        wheels.fetch(own, own.requires, arm, tmp_path)
    assert caught.value.code == "wheel-missing"
    assert f"no wheel of native>=0.5 for aarch64, Python {arm.python}," in str(caught.value)


def test_conditions_are_judged_for_the_python_that_is_meant(tmp_path: Path, looks_in: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    conditions = ("early; python_version < '3.90'", "late[more]>=1; python_version >= '3.90'")
    own = a_wheel(folder, "petaseal", "middle")
    a_wheel(folder, "middle", *conditions)
    a_wheel(folder, "early", "deep; platform_machine == 'aarch64'")
    a_wheel(folder, "late", "never; extra == 'other'", "deep; extra == 'more' and platform_machine == 'aarch64'")
    a_wheel(folder, "deep", "middle")
    looks_in.setenv("PIP_FIND_LINKS", str(folder))
    for target, names in (
        (WheelTarget("aarch64", "3.98"), {"middle", "late", "deep"}),
        (WheelTarget("x86_64", "3.12"), {"middle", "early"}),
    ):
        assert set(wheels.fetch(own, own.requires, target, tmp_path)) == names


def test_torch_comes_only_when_asked_for(tmp_path: Path) -> None:
    requires = (
        "numpy",
        "torch>=2.4; extra == 'cuda12'",
        "cupy[ctk]; extra == 'cuda12'",
        "torch>=2.4; extra == 'torch'",
    )
    own = a_wheel(tmp_path, "petaseal", *requires)._replace(extras=("cuda12", "torch"))
    for extras, names in (
        ([], ["pip", "numpy"]),
        (["cuda12"], ["pip", "numpy", "cupy[ctk]"]),
        (["torch"], ["pip", "numpy", "torch>=2.4"]),
    ):
        assert [str(root) for root in bundle.roots_of(own, TARGETS[0], extras)] == names
    with pytest.raises(InputError, match="there is no extra 'other'; choose from cuda12, torch"):
        bundle.roots_of(own, TARGETS[0], ["other"])
    with pytest.raises(InputError, match=r"petaseal needs Python >=3\.10"):
        bundle.roots_of(own._replace(requires_python=">=3.10"), WheelTarget("x86_64", "3.9"), [])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.long
def test_it_is_ended_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    running = started("bundle", "--out", tmp_path / "b.tar.gz")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".b.tar.gz.*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(list(tmp_path.iterdir())) == 1
    running.send_signal(getattr(signal, name))
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert err.endswith(" [interrupted]\n")
    assert not list(tmp_path.iterdir())


def test_wrong_usage_is_one_sentence(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"mine")
    for arguments, code in (
        (("--out", there), "output-exists"),
        (("--out", there / "under"), "output-not-writable"),
        (("--out", tmp_path / "b", "--platform", "riscv64"), "unknown-name"),
        (("--out", tmp_path / "b", "--python", "3"), "unknown-name"),
    ):
        answer = process("bundle", *arguments)
        assert (answer.status, answer.code, answer.out) == (2, code, "")
    assert there.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


# Requirements and conditions
ON = (WheelTarget("aarch64", "3.9"), WheelTarget("x86_64", "3.10"), WheelTarget("x86_64", "3.14"))


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("python_version < '3.10'", "1 0 0"),
        ("python_version <= '3.10' or python_version == '3.14'", "1 1 1"),
        ("'3.10' < python_version", "0 0 1"),
        ("python_version != '3.10.0'", "1 0 1"),
        ("python_version == '3.*' and python_version != '3.1.*'", "1 1 1"),
        ('python_full_version >= "3.14.0a1"', "0 0 1"),
        ("(sys_platform == 'linux') and extra == 'A.b'", "1 1 1"),
        ("platform_machine == 'x86_64' and not_a_name == 'x'", "1 1 1"),
        ("platform_machine in 'arm64 aarch64'", "1 0 0"),
        ("platform_machine not in 'arm64 aarch64' and os_name == 'posix'", "0 1 1"),
        ("platform_python_implementation != 'PyPy' and implementation_name == 'cpython'", "1 1 1"),
        ("sys_platform == 'win32' or platform_system == 'Windows'", "0 0 0"),
        ("python_version ~= '3.10'", "0 1 1"),
    ],
)
def test_conditions_hold_as_pip_would_have_it_there(marker: str, expected: str) -> None:
    condition = parse_requirement(f"x; {marker}").marker
    assert [holds(condition, target, ["a-b"]) for target in ON] == [letter == "1" for letter in expected.split()]


def test_requirements_are_read() -> None:
    assert parse_requirement("Foo_Bar[x, Y.z] (>= 1.0, <2) ; extra == 'e'") == WheelRequirement(
        "foo-bar", frozenset({"x", "y-z"}), "<2,>=1.0", Marker("extra == 'e'")
    )
    assert str(parse_requirement("a [b]>=1")) == "a[b]>=1"
    with pytest.raises(InputError):
        parse_requirement("a @ file:///x")


def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    (path := tmp_path / "x-1-py3-none-any.whl").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"x-1-py3-none-any\.whl: is not a wheel"):
        read_wheel(path)


def test_required_python(tmp_path: Path) -> None:
    wheel = a_wheel(tmp_path, "x")
    for text, python, good in (
        (">=3.10", "3.10", True),
        (">=3.10", "3.9", False),
        (">=3.8, !=3.9.*, <4", "3.9", False),
        (">=3.8, !=3.9.*, <4", "3.11", True),
        ("", "3.11", True),
        ("three or more", "3.11", True),  # unreadable: one wheel too many does no harm
    ):
        assert runs_on(wheel._replace(requires_python=text), WheelTarget("x86_64", python)) == good, (text, python)


# The fonts, which are a distribution of this repository and on no index


def test_the_fonts_come_from_here_and_from_no_index(tmp_path: Path, looks_in: pytest.MonkeyPatch) -> None:
    index, here = tmp_path / "index", tmp_path / "here"
    index.mkdir()
    here.mkdir()
    own = a_wheel(here, "petaseal", "petaseal-fonts>=1.0; extra == 'report'", "pure; extra == 'report'")
    ours = a_wheel(here, "petaseal_fonts")
    forged = a_wheel(index, "petaseal_fonts", "pure")
    a_wheel(index, "pure")
    looks_in.setenv("PIP_FIND_LINKS", str(index))
    roots = [WheelRequirement(wheels.FONTS), WheelRequirement("pure")]
    got = wheels.fetch(own, roots, TARGETS[0], tmp_path, {wheels.FONTS: ours})
    assert got[wheels.FONTS].path == ours.path != forged.path
    assert set(got) == {wheels.FONTS, "pure"}


def test_their_wheel_is_rebuilt_from_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import petaseal_fonts

    monkeypatch.setattr(wheels, "HOME", tmp_path)  # no checkout
    made = wheels.fonts_wheel(tmp_path)
    with zipfile.ZipFile(made.path) as content:
        names = {name: hashlib.sha256(content.read(name)).hexdigest() for name in content.namelist()}
    for name, digest in petaseal_fonts.SHA256.items():
        assert names[f"petaseal_fonts/{name}"] == digest
    assert "petaseal_fonts/OFL.txt" in names
