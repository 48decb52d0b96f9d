"""The command line. Bad input ends with one line on stderr and exit code 2."""

import errno
import os
import sys
from typing import Any

from burnish import __version__
from burnish.cli.commands import COMMANDS, app
from burnish.errors import InputError, unknown

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; returns nothing, exits with 2 on bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if given[:1] == ["--version"]:
            return print(f"burnish {__version__}")
        if given and not given[0].startswith("-") and given[0] not in COMMANDS:
            raise unknown("command", given[0], COMMANDS)
        return app.cli(
            prog="burnish",
            description="Refine generated images up the gradient of a joint "
            "classifier-discriminator. New here? Try: burnish demo",
            args=given,
            sort_subcommands=False,
        )
    except InputError as error:
        message, code = str(error), 2
    except BrokenPipeError:
        # The reader, e.g. head, has seen enough; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            error.strerror = "the disk is full; free some space or choose another place"
        reason = error.strerror or str(error)
        message, code = f"{error.filename}: {reason}" if error.filename else reason, 2
    except KeyboardInterrupt:
        message, code = "stopped", 130
    # Outside the except clause the traceback is gone, and with it any half-drawn progress bar.
    print(f"burnish: {message}", file=sys.stderr)
    sys.exit(code)
