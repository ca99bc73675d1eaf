"""The built wheel works from any folder, with all that belongs to it inside; and it notices what stands in for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.bench.test_run import quick

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("petaseal-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the command of a new environment that holds the wheel; what it depends on is lent by this one."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
    packages = Path(paths["purelib"])
    uv = Path(sys.executable).with_name("uv")  # beside the interpreter, where make puts it
    options = ("--offline", "--no-deps", "--no-cache", "--quiet", "--python", str(home / "bin" / "python"))
    subprocess.run([str(uv), "pip", "install", *options, str(wheel)], check=True, capture_output=True)
    lent = tmp_path_factory.mktemp("lent")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "petaseal" not in path.name and path.suffix != ".pth":
            (lent / path.name).symlink_to(path)
    (packages / "lent.pth").write_text(f"{lent}\n")
    return home / "bin" / "petaseal"


def call(command: Path, folder: Path, *args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PETASEAL"))}
    return subprocess.run(
        [str(command), *map(str, args)],
        cwd=folder,
        env={**kept, "PETASEAL_STATE": str(folder / "state"), **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def good(command: Path, folder: Path, *args: object) -> str:
    done = call(command, folder, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_travels_inside(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    configs = {path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.*")}
    assert {f"bench/_configs/{name}" for name in configs} <= names
    assert {
        "certify/statement/paper/statement.html.j2",
        "certify/statement/paper/statement.typ",
        "kernels/normal_quantiles.npy",
        "certify/__main__.py",
    } <= names
    assert {f"kernels/cuda/{path.name}" for path in (ROOT / "kernels" / "cuda").glob("*.cu")} <= names
    for room in ("bench", "certify", "kernels"):
        sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / room).rglob("*.py")}
        assert {name for name in names if name.startswith(f"{room}/") and name.endswith(".py")} == sources
    assert not [name for name in names if name.startswith(("tests/", "results/", "configs/", "docs/"))]


def test_the_whole_chain_from_another_folder(installed: Path, tmp_path: Path) -> None:
    where = good(installed.with_name("python"), tmp_path, "-c", "import bench; print(bench.__file__)").strip()
    assert Path(where).is_relative_to(installed.parent.parent)
    policies = json.loads(good(installed, tmp_path, "policy", "list", "--json"))["policies"]
    assert {"guangzhou-2000p", "guangzhou-2027", "wuhan-2025"} <= {entry["policy"] for entry in policies}
    good(installed, tmp_path, "centre", "new", "--out", "centre.yaml")
    good(installed, tmp_path, "centre", "check", "demo")
    good(installed, tmp_path, "keys", "new", "--no-passphrase", "--out", "operator.pem")
    profile = quick(tmp_path)
    good(
        installed,
        tmp_path,
        "run",
        "--profile",
        profile,
        "--device",
        "fake:2",
        "--precision",
        "fp16",
        "--out",
        "records",
    )
    arguments = ("--centre", "centre.yaml", "--key", "operator.pem", "--profile", profile, "--out", "stated")
    assert "SIMULATED" in good(installed, tmp_path, "certify", "records", *arguments)
    page = (tmp_path / "stated" / "statement.html").read_text()
    assert "算力能力声明书" in page
    told = good(
        *(installed, tmp_path, "verify", "stated/statement.dsse.json", "--public-key", "operator.pem.pub"),
        *("--records", "stated/records.jsonl", "--samples", "records", "--profile", profile),
        *("--accept-simulated", "--require", "audited", "--json"),
    )
    assert json.loads(told)["level"] == "audited"


@pytest.mark.parametrize("names", [("kernels",), ("bench",), ("kernels", "bench")])
@pytest.mark.parametrize("content", ["", "raise RuntimeError('not yours')", "def __getattr__(name): return print"])
def test_a_foreign_package_is_noticed_before_anything_of_it_is_used(
    installed: Path, tmp_path: Path, names: tuple[str, ...], content: str
) -> None:
    for name in names:
        (tmp_path / "other" / name).mkdir(parents=True)
        (tmp_path / "other" / name / "__init__.py").write_text(content)
    for arguments in (("policy", "list"), ("--help",), ("verify", "x", "--public-key", "y")):
        done = call(installed, tmp_path, *arguments, PYTHONPATH=str(tmp_path / "other"))
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith(f"petaseal: the package {names[0]!r} is not petaseal's own but ")
        assert done.stderr.endswith("; install petaseal into a virtual environment of its own [foreign-package]\n")
        assert done.stderr.count("\n") == 1


def test_a_foreign_module_is_noticed_and_an_empty_folder_is_none(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "other" / "kernels").mkdir(parents=True)  # a namespace never shadows a package
    assert call(installed, tmp_path, "policy", "list", PYTHONPATH=str(tmp_path / "other")).returncode == 0
    (tmp_path / "other" / "bench.py").write_text("")
    done = call(installed, tmp_path, "policy", "list", PYTHONPATH=str(tmp_path / "other"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "[foreign-package]" in done.stderr
