"""The root command line: mounts every command, and ends each with an exit status.

Nothing heavy is imported before a command runs, and a group of commands only when one of them is called, so that
``petaseal --help`` and shell completion stay quick.
"""

from __future__ import annotations

import sys
from functools import cached_property
from importlib import import_module
from typing import Annotated, Any, ClassVar, NoReturn

import typer
from typer.core import TyperGroup

from bench.errors import Interrupted, PetasealError
from certify.commands import explain, run, statement, witness
from certify.commands.offline import bundle, package
from certify.commands.output import escape_what_a_terminal_lacks, fail, fail_system, fail_usage, keep_output_whole

PURPOSE = "Measure the sustained FP16 and FP64 throughput of a computing centre, and sign the figure."
GROUPS = {  # name -> what it is for, and the module of its commands
    "keys": ("Make and show keys.", "keys"),
    "centre": ("Describe a centre and its baseline inventory.", "centre"),
    "policy": ("Show the policies that statements are judged by.", "policy"),
    "campaign": ("Measure a whole centre in one window.", "campaign"),
    "import": ("Bring what other tools printed (HPL, nccl-tests, hccl_test) as evidence.", "evidence.importing"),
    "trust": ("Say whose keys count: make, change and accept a trust root.", "trust"),
    "audit": (
        "Hold a statement against its raw samples. `petaseal audit DIR` is short for `petaseal audit run DIR`.",
        "audit",
    ),
    "report": ("Draw a statement or a measurement for people to read.", "report"),
    "registry": ("Run a registry of statements, or talk to one.", "registry.registry"),
}


class LazyGroup(TyperGroup):
    """Stands for a group until one of its commands is called: the list of groups needs its name and help alone."""

    module: ClassVar[str]

    @cached_property
    def group(self) -> TyperGroup:
        """The group itself, whose module is imported now."""
        made = typer.main.get_group(import_module(self.module).app)
        made.name, made.help = self.name, self.help
        return made

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return the context of the group itself: from here on it is that which is called."""
        return self.group.make_context(info_name, args, parent, **extra)


app = typer.Typer(
    name="petaseal",
    help=PURPOSE,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain text: rich's panels cost the import of rich, and brackets in help texts would be taken for markup.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order in which `--help` lists them: as a newcomer uses them.
for room in (run, statement, explain, bundle, witness, package):
    app.add_typer(room.app)
for name, (purpose, module) in GROUPS.items():
    # Typer takes a class and makes its instance itself: the module is therefore the class's.
    lazy = type("LazyGroup", (LazyGroup,), {"module": f"certify.commands.{module}"})
    app.add_typer(typer.Typer(cls=lazy), name=name, help=purpose)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"petaseal {version('petaseal')}")
        raise typer.Exit


@app.callback(help=PURPOSE)
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options of the root."""


def main() -> NoReturn:
    """Run the command line and exit: the one place where an error becomes one sentence and an exit status."""
    # Before anything is parsed: a usage error may quote what was typed.
    escape_what_a_terminal_lacks()
    keep_output_whole()
    try:
        # `python -m certify` is to call itself petaseal as well; and the statuses below are ours, not Typer's.
        status = app(prog_name="petaseal", standalone_mode=False)
        # Newer versions of Typer return this status after Ctrl-C, older ones raise `Abort`.
        if status == Interrupted.exit_status:
            raise Interrupted
    except PetasealError as error:
        fail(error)
    except (KeyboardInterrupt, typer.Abort):
        fail(Interrupted())
    except OSError as error:
        fail_system(error)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not a usage error of the command-line library: a defect of ours
            raise
        fail_usage(error)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
