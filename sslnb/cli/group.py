"""The group that all commands belong to."""

import click


class OneLineErrors(click.Group):
    """Input that can't be used ends a command with one line, not a traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except (click.exceptions.Exit, BrokenPipeError):  # of --help, a RuntimeError too; of a reader that went away
            raise
        except (ValueError, RuntimeError, OSError) as error:
            raise click.ClickException(f"{context.invoked_subcommand}: {error}") from error


@click.group(
    cls=OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True},
    epilog="Examples: sslnb run separability -p dataset=cifar10 · sslnb run all -p encoder=checkpoint:my.pt "
    "-p dataset=folder:photos · sslnb pretrain --objective simclr --dataset digit-scenes --width 16 --epochs 7",
)
@click.version_option(package_name="sslnb")
def sslnb() -> None:
    """Self-supervised visual representations: five studies that rerun themselves."""
