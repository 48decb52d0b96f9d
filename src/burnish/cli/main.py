"""The entry point. Bad input ends with one line on stderr and exit code 2."""

import errno
import os
import sys
from typing import Any

import click

from burnish import __version__
from burnish.cli.adapt import adapt
from burnish.cli.demo import demo
from burnish.cli.doctor import doctor
from burnish.cli.evaluate import evaluate
from burnish.cli.measure import measure
from burnish.cli.pack import pack
from burnish.cli.refine import refine
from burnish.cli.report import report
from burnish.cli.sample import sample
from burnish.cli.train import train
from burnish.cli.tune import tune
from burnish.errors import InputError, unknown

COMMANDS = (demo, sample, refine, evaluate, report, adapt, tune, train, doctor, measure, pack)


class _Commands(click.Group):
    """Commands in the order in which a newcomer meets them; misspelt names get a suggestion."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            raise unknown("command", args[0], self.commands)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["--help", "-h"]})
@click.version_option(__version__, prog_name="burnish", message="%(prog)s %(version)s")
def cli() -> None:
    """Refine generated images with a joint classifier-discriminator.

    A generator makes samples, a guide scores them, refine climbs the guide, metrics compare them
    with real images, a report shows them. New here? Try: burnish demo
    """


for _command in COMMANDS:
    cli.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with 2 on bad input."""
    try:
        cli.main(arguments, prog_name="burnish", standalone_mode=False)
        return
    except (click.UsageError, InputError) as error:
        said = error.format_message() if isinstance(error, click.UsageError) else str(error)
        message, code = " ".join(said.split()), 2
    except BrokenPipeError:
        # The reader, e.g. head, has seen enough; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    except OSError as error:
        if error.errno == errno.ENOSPC:
            error.strerror = "the disk is full; free some space or choose another place"
        reason = error.strerror or str(error)
        message, code = f"{error.filename}: {reason}" if error.filename else reason, 2
    except (click.Abort, KeyboardInterrupt):
        message, code = "stopped", 130
    # Outside the except clause the traceback is gone, and with it any half-drawn progress bar.
    print(f"burnish: {message}", file=sys.stderr)
    sys.exit(code)
