"""The root imports a group of commands only when one of them is called."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import typer

from bench.errors import InputError
from certify.commands import options
from certify.commands.root import GROUPS, app
from tests.bad_input.command import petaseal

HEAVY = ("numpy", "yaml", "msgspec", "rich", "cryptography", "kernels")


def loaded(*words: str) -> set[str]:
    """Return what a process has imported once it has answered."""
    code = f"import sys\nsys.argv = {['petaseal', *words]}\nfrom certify.commands.root import main\ntry: main()\n"
    code += "except SystemExit: print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("2026-11-20", "2026-11-20T00:00:00.000000Z"),
        ("2026-11-20T08:30:00Z", "2026-11-20T08:30:00.000000Z"),
        ("2026-11-20T08:30:00.25Z", "2026-11-20T08:30:00.250000Z"),
        ("2026-11-20T08:30:00.000001Z", "2026-11-20T08:30:00.000001Z"),
    ],
)
def test_a_time_is_typed_without_what_is_zero(typed: str, meant: str) -> None:
    assert options.checked_time(typed, "--at") == meant


@pytest.mark.parametrize("typed", ["", "2026-11-3", "2026-13-01", "2026-11-20T08:30Z", "2026-11-20T08:30:00", "now"])
def test_what_is_no_time_gets_an_example_of_one(typed: str) -> None:
    with pytest.raises(InputError, match=r"^--at: .* is no UTC time such as 2026-03-01, ") as caught:
        options.moment_ns(typed, "--at")
    assert caught.value.code == "time-invalid"


def test_help_lists_the_groups_and_imports_none_of_them() -> None:
    modules = loaded("--help")
    assert not modules & {f"certify.commands.{module}" for _, module in GROUPS.values()}
    assert not modules & set(HEAVY)


def test_the_help_of_a_group_imports_that_group_alone() -> None:
    modules = loaded("keys", "--help")
    assert modules & {f"certify.commands.{module}" for _, module in GROUPS.values()} == {"certify.commands.keys"}


@pytest.mark.parametrize("name", GROUPS)
def test_each_group_is_what_its_module_holds(name: str) -> None:
    purpose, module = GROUPS[name]
    commands = typer.main.get_group(import_module(f"certify.commands.{module}").app).commands
    told = petaseal(name, "--help")
    assert (told.status, told.err) == (0, "")
    words = " ".join(told.out.split())
    assert words.startswith(f"Usage: petaseal {name} [OPTIONS] COMMAND [ARGS]... {purpose}")
    assert all(f" {one} " in words for one, command in commands.items() if not command.hidden)


def test_every_group_is_mounted() -> None:
    assert typer.main.get_command(app).commands.keys() >= GROUPS.keys()  # type: ignore[attr-defined]
