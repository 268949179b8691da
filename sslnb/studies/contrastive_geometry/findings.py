"""What the chapter's text says of its recorded result, and whether the result bears it out."""

from sslnb.core.result import Result
from sslnb.report import kinds
from sslnb.studies.contrastive_geometry.claims import kept
from sslnb.studies.contrastive_geometry.figures import of_method

THREE = ("simclr", "supcon", "supervised")


def statements(result: Result) -> dict[str, bool]:
    """Every statement of the published text with its truth; the build stops at one that is false."""
    data, verdict = result.data, kinds(result)
    end = data["trajectories"].progress.sel(split="validation").isel(epoch=-1)
    scaled = data["trajectories"].standardized_progress
    accuracy = data["fine_tuning"].accuracy.sel(split="validation").isel(epoch=-1)
    share, pgd = kept(data["robustness"].fgsm.sel(split="validation")), data["robustness"].pgd.sel(pgd_budget=1)

    def mean(values, name: str) -> float:
        return float(of_method(values, name).mean())

    others = [name for name in THREE if name != "simclr"]
    return {
        "SimCLR ends closest to the truth with raw features": all(
            mean(end, "simclr") > mean(end, name) for name in others
        ),
        "with standardized features supervised training does": mean(scaled, "supervised") > mean(scaled, "simclr"),
        "SimCLR is as accurate as supervised training within 5 points": abs(
            mean(accuracy, "simclr") - mean(accuracy, "supervised")
        )
        < 0.05,
        "SimCLR keeps most of the three under FGSM": all(mean(share, "simclr") > mean(share, n) for n in others),
        "raw pixels keep more than any of them": all(mean(share, "pixels") > mean(share, name) for name in THREE),
        "under PGD of 1/255 SimCLR keeps most of the three": all(mean(pgd, "simclr") > mean(pgd, n) for n in others),
        "the minima differ in flatness": verdict["G1"] in ("reversed", "undecided"),
    }
