"""The command line's application, which the files of commands beside it add to."""

import typer

app = typer.Typer(
    help="Rewards for images, video and vision-language output.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
