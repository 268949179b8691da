"""Commands that run studies, and build what is read."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
from click.core import ParameterSource

from sslnb import studies
from sslnb.book import extend, mail, pdf, runner, verify
from sslnb.book.sweep import sweep as sweep_study
from sslnb.cli.group import sslnb
from sslnb.cli.options import grid, pairs, study_options
from sslnb.core import files
from sslnb.core.checks import expect, expect_known


@sslnb.command()
@click.argument("study")
@study_options
def run(study: str, parameters: dict[str, str], profile: str, out: Path) -> None:
    """Execute a STUDY's notebook with parameters, or with 'all' those of all chapters; leaves notebooks and Results.

    With 'all' a parameter goes to the studies that have it, and a study that the images are too few for is left out, as
    is one whose notebook fails.
    """
    asked = {"profile": profile} | parameters
    values = _by_study(asked) if study == "all" else {study: asked}
    if studies.JOINED in values and profile != "published":
        values[studies.JOINED] = {"results": str(out)} | values[studies.JOINED]
    checked = {name: studies.parameters(name, **own) for name, own in values.items()}
    left_out = []

    def goes(name: str, what: Callable[[str], None]) -> bool:
        """Whether a study takes what is asked of it; of several one may not, and is left out with its reason."""
        try:
            what(name)
        except ValueError as error:
            if study != "all":
                raise
            left_out.append(name)
            print(f"{name}: left out: {error}", file=sys.stderr)
        return name not in left_out

    def check(name: str) -> None:
        studies.check(name, checked[name])

    def execute(name: str) -> None:
        path = runner.run_notebook(name, values[name], out)
        print(f"{name}: notebook {path}, result {path.with_suffix('.json')}")

    first = [name for name in values if study != "all" or name != studies.JOINED]
    ready = [name for name in first if goes(name, check)]
    runner.expect_places(out)
    for name in ready:
        goes(name, execute)
    for name in values:  # what joins the others' Results can be checked once these are there
        if name not in first and goes(name, check):
            goes(name, execute)
    expect(not left_out, "all", "every study to run", f"left out, for the reasons above: {', '.join(left_out)}")


@sslnb.command("report")
@click.option("--html", "page", type=Path, metavar="FILE", help="The page, as one file; default: in --out.")
@click.option("--out", type=Path, default="runs", metavar="DIR", help="Folder of the notebook and its Result.")
@click.option("--profile", default="small", metavar="P", help="quick, small or paper.")
@click.option("parameters", "-p", multiple=True, callback=pairs, metavar="NAME=VALUE", help="A parameter.")
def report_command(parameters: dict[str, str], profile: str, out: Path, page: Path | None) -> None:
    """A report card: every measure of the book for your encoder on your images, beside the pool's encoders.

    -p encoder=my.pt (or several, a.pt,b.pt) -p dataset=folder:photos; nothing is trained but probes.
    """
    page = page or out / f"{studies.CARD}.html"
    expect(not page.is_dir(), "--html", "a file to write", f"the folder {page}")
    values = {"profile": profile} | parameters
    studies.check(studies.CARD, studies.parameters(studies.CARD, **values))
    runner.expect_places(out)
    files.expect_writable(page.parent, "--html")
    notebook = runner.run_notebook(studies.CARD, values, out)
    print(f"report: page {mail.one_file(notebook, page)}, notebook {notebook}, result {notebook.with_suffix('.json')}")


def _by_study(parameters: dict[str, str]) -> dict[str, dict[str, str]]:
    """Of all parameters those that each study has; ``ValueError`` for one that none has."""
    names = [name for name in studies.NAMES if name != studies.CARD]  # which has a command of its own
    fields = {name: {*studies.get(name).parameters.model_fields, "dataset"} for name in names}
    for parameter in parameters:
        expect_known(parameter, sorted(set.union(*fields.values())), "parameter")
    return {name: {k: v for k, v in parameters.items() if k in own} for name, own in fields.items()}


@sslnb.command()
@click.argument("study")
@click.option("grid", "-g", multiple=True, required=True, callback=grid, metavar="NAME=A,B,C", help="Values to try.")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler; default: this machine's cores.")
@study_options
def sweep(
    study: str, grid: dict[str, list], scheduler: str | None, parameters: dict[str, str], profile: str, out: Path
) -> None:
    """Run a STUDY at every point of a grid, on Dask."""
    default = click.get_current_context().get_parameter_source("profile") is ParameterSource.DEFAULT
    fixed = ({} if default and "profile" in grid else {"profile": profile}) | parameters
    twice = sorted(set(grid) & set(fixed))
    expect(not twice, "--profile" if twice == ["profile"] else "-p", "names that -g does not vary", twice)
    repeated = [name for name, values in grid.items() if len(set(values)) < len(values)]
    expect(not repeated, "-g", "each value once", repeated)
    rows = sweep_study(study, grid, out, fixed=fixed, scheduler=scheduler)
    for row in rows:
        print(json.dumps(row))
    failed = sum("error" in row for row in rows)
    expect(not failed, "sweep", "every point to succeed", f"{failed} of {len(rows)} failed")


@sslnb.command("studies")
@click.argument("names", nargs=-1, metavar="[STUDY]...")
def list_studies(names: tuple[str, ...]) -> None:
    """List the studies, or some of them, and their parameters."""
    for name in names:
        expect_known(name, studies.ALL, "study")
    for name in names or studies.ALL:
        study = studies.get(name)
        print(f"{name}: {study.title}")
        for profile, preset in study.parameters.PRESETS.items():
            expected = "" if profile == "quick" else " expected"
            print(f"  --profile {profile}: {preset.minutes:g} minutes{expected} on {preset.hardware}; {preset.reaches}")
        for field, value in studies.parameters(name, profile="quick").as_dict().items():
            print(f"  {field} = {value!r}")


@sslnb.command("verify")
@click.argument("names", nargs=-1, metavar="[STUDY]...")
@click.option("--member", "-m", "members", multiple=True, metavar="OBJECTIVE/SEED", help="Of the pool; default: two.")
def verify_command(names: tuple[str, ...], members: tuple[str, ...]) -> None:
    """Measure published numbers again from the encoders that ship, and compare; status 1 where one differs."""
    for name in names:
        expect_known(name, studies.ALL, "study")
    different = 0
    for one in verify.verify(names, members or verify.MEMBERS):
        print(_verified(one), flush=True)
        different += not one.same
    expect(not different, "verify", "numbers as they are recorded", f"{different} that differ by more than they may")


@sslnb.command("extend")
@click.argument("study")
@click.option("--out", type=Path, default="runs", metavar="DIR", help="Folder of the extended Result.")
def extend_command(study: str, out: Path) -> None:
    """Measure members that the pool has gained since a STUDY was recorded, and join them to its published Result."""
    expect_known(study, studies.ALL, "study")
    runner.expect_places(out)
    result = extend.extend(study)
    added = ", ".join(result.facts["provenance"]["extended"][-1]["encoders"])
    print(f"{study}: result {result.save(out / study).with_suffix('.json')}, with {added}")


def _verified(one: verify.Comparison) -> str:
    if one.note:
        return f"{one.study:22} left out: {one.note}"
    verdict = "same" if one.same else "DIFFERENT"
    numbers = f"{one.cells:6} numbers, at most {one.difference:.4g} apart (may be {one.tolerance:g})"
    return f"{one.study:22} {one.step + '.' + one.name:28} {numbers}: {verdict}"


@sslnb.command()
@click.option("--force", is_flag=True, help="Execute and build everything again.")
def book(force: bool) -> None:
    """Execute what is stale and build the site."""
    print(f"open {runner.book(runner.find_root(), force=force)}")


@sslnb.command("pdf")
@click.argument("target", type=Path, default=Path("sslnb.pdf"))
def pdf_command(target: Path) -> None:
    """Print the built site into one PDF with Chromium."""
    expect(not target.is_dir(), "target", "a file to write", f"the folder {target}")
    files.expect_writable(target.parent, "target")
    print(f"open {pdf.pdf(runner.find_root(), target)}")
