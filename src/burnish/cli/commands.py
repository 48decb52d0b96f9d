"""All commands, and how click's faults become those of burnish."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from burnish import __version__
from burnish.cli.adapt import adapt
from burnish.cli.compare import compare
from burnish.cli.demo import demo
from burnish.cli.distill import distill
from burnish.cli.doctor import doctor
from burnish.cli.evaluate import evaluate
from burnish.cli.explain import explain
from burnish.cli.import_ import import_
from burnish.cli.measure import measure
from burnish.cli.models import models
from burnish.cli.pack import pack
from burnish.cli.presets import presets
from burnish.cli.refine import refine
from burnish.cli.report import report
from burnish.cli.sample import sample
from burnish.cli.share import pull, push
from burnish.cli.survey import survey
from burnish.cli.train import train
from burnish.cli.tune import tune
from burnish.cli.view import view
from burnish.errors import InputError, unknown

COMMANDS = (
    demo,
    sample,
    refine,
    evaluate,
    compare,
    report,
    view,
    survey,
    import_,
    adapt,
    tune,
    explain,
    distill,
    train,
    doctor,
    presets,
    models,
    measure,
    pack,
    push,
    pull,
)
# These share work among processes, or may; the others would do all of it in each.
PARALLEL = (sample, refine, evaluate, train)


class _Commands(click.Group):
    """Commands in the order in which a newcomer meets them; misspelt names get a suggestion."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            raise unknown("command", args[0], self.commands)
        name, command, rest = super().resolve_command(ctx, args)
        if command not in PARALLEL and os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
            raise InputError(f"burnish {name} runs as one process; start it without torchrun")
        return name, command, rest

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _reading():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _reading():
            return super().invoke(ctx)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        # Click would end the process with 1, and say nothing.
        raise Unread from error


class Unread(Exception):
    """Nobody reads what is printed, e.g. ``head`` has seen enough."""


@click.group(cls=_Commands, context_settings={"help_option_names": ["--help", "-h"]})
@click.version_option(__version__, prog_name="burnish", message="%(prog)s %(version)s")
def cli() -> None:
    """Refine generated images with a joint classifier-discriminator.

    A generator makes samples, a guide scores them, refine climbs the guide, metrics compare them
    with real images, a report shows them. New here? Try: burnish demo
    """


for _command in COMMANDS:
    cli.add_command(_command)


def run(arguments: list[str] | None) -> None:
    """Run one command.

    Raises:
        InputError: The command line or what it names cannot be used.
        Unread: Standard output is a pipe that nobody reads.
    """
    try:
        cli.main(arguments, prog_name="burnish", standalone_mode=False)
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except click.ClickException as error:
        raise InputError(error.format_message()) from error
