"""The root imports a group of commands only when one of them is called."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import typer

from certify.commands.root import GROUPS, app
from tests.bad_input.command import petaseal

HEAVY = ("numpy", "yaml", "msgspec", "rich", "cryptography", "kernels")


def loaded(*words: str) -> set[str]:
    """Return what a process has imported once it has answered."""
    code = f"import sys\nsys.argv = {['petaseal', *words]}\nfrom certify.commands.root import main\ntry: main()\n"
    code += "except SystemExit: print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines())


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
