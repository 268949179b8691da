"""The ``sslnb`` command line."""

import logging
import os
import sys
from collections.abc import Sequence

import click

from sslnb.cli import book, pool, training  # noqa: F401 - where commands are
from sslnb.cli.group import sslnb

INTERRUPTED = 130  # status of a command that Ctrl-C ended


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``sslnb``: 0 on success; 1, or 2 for wrong usage, with one line on standard error."""
    try:
        return sslnb(argv, prog_name="sslnb", standalone_mode=False) or 0
    except BrokenPipeError:  # whoever read the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return 2
    except click.UsageError as error:
        print(f"{error.ctx.command_path if error.ctx else 'sslnb'}: {error.format_message()}", file=sys.stderr)
        return error.exit_code
    except click.Abort:
        # What waits for a kernel ends with it, and would say so.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        print("sslnb: interrupted; the same command goes on from what is kept", file=sys.stderr)
        return INTERRUPTED
    except click.ClickException as error:
        print(f"sslnb {error.format_message()}", file=sys.stderr)
        return error.exit_code
