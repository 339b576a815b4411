"""The command line: finds a command by its file in `unlearnable/commands`, which parses, calls one function, and prints.

Results go to stdout, progress and notes to stderr. Nothing heavy is imported before a command needs it, so that help and
listings answer at once.
"""

from __future__ import annotations

import click

from unlearnable.commands import _shell
from unlearnable.version import __version__

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=_shell.Group, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="unlearnable")
def cli() -> None:
    """Protect images against training on their public copies, and prove it.

    \b
    unlearnable protect photos/ photos-protected/    make a protected, verified, signed copy
    unlearnable check photos-protected/              is every file as it was signed?
    unlearnable push photos-protected/ owner/photos  onto the Hugging Face Hub, private and gated
    """


if __name__ == "__main__":
    cli()
