"""The command line's application, which the files of commands beside it add to."""

import os
import sys
import warnings
from typing import Annotated

import typer

app = typer.Typer(
    help="Rewards for images, video and vision-language output.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


LOUD = ("fetch",)
"""Commands whose work is what others show."""
QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # "Loading weights" of transformers follows it
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
}
"""What other libraries read as they are imported; what the user has set stays."""


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("mmreward"))
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also what torch, transformers and others print meanwhile.")
    ] = False,
) -> None:
    """Options of the program itself."""
    if not verbose and context.invoked_subcommand not in LOUD:
        quieten()


def quieten() -> None:
    """Leave the terminal to this program: no bars, no advice and no warnings of what it is built on.

    Nothing is imported for it: it is read when, and if, these libraries are.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        for kind in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", kind)
