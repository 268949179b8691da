"""What the page's text says of its recorded result, and whether the result bears it out."""

import xarray as xr

from sslnb.core.result import Result
from sslnb.pool.pool import MATCHED, ON_VIEWS, PIXELS
from sslnb.studies.study import UNTRAINED


def means(result: Result) -> xr.Dataset:
    """kNN and linear accuracy and effective rank on test images, by objective: means over seeds."""
    return result.data["evaluation"].mean("seed")


def statements(result: Result) -> dict[str, bool]:
    """Every statement of the published text with its truth; the build stops at one that is false."""
    found = means(result)
    trained = list(result.data["step_cost"].objective.values)
    unlabelled = ["vicreg", "simclr", "swav", "byol", "barlow_twins", "moco", "infomin", "pirl", "rotnet", "cmc"]

    def of(name: str, method: str) -> float:
        return float(found[name].sel(objective=method))

    linear = found.linear.sel(objective=["supervised", "supcon", *unlabelled]).values
    gain = {method: of("linear", method) - of("knn", method) for method in trained}
    drawn = result.data["pretraining"][["probe", "knn"]].isel(seed=0).sel(objective=trained).to_array()
    quarter = drawn.sizes["epoch"] // 4
    before, last = drawn.isel(epoch=slice(-2 * quarter, -quarter)), drawn.isel(epoch=slice(-quarter, None))
    return {
        "labels lead, and VICReg is the best without them, ahead of SimCLR": list(linear)
        == sorted(linear, reverse=True)
        and of("linear", "vicreg") > of("linear", "simclr") + 0.02,
        "every objective is fifteen points above raw pixels": set(trained) - {ON_VIEWS}
        == {"supervised", "supcon", *unlabelled}
        and float(found.linear.sel(objective=trained).min()) > of("linear", PIXELS) + 0.15
        and of("linear", PIXELS) > of("linear", UNTRAINED),
        "SimCLR's views cost supervised training less than a point": 0
        < of("linear", "supervised") - of("linear", ON_VIEWS)
        < 0.01,
        "in CMC's and RotNet's features alone a linear classifier finds ten points more than neighbours": {
            name for name in trained if gain[name] > 0.1
        }
        == {"cmc", "rotnet"}
        and max(gain["supervised"], gain["supcon"]) < 0.02,
        "the rank of the features does not follow their accuracy": of("rankme", "supcon") < of("rankme", "moco")
        and of("linear", "supcon") > of("linear", "moco") + 0.2
        and of("rankme", PIXELS) > 5 * of("rankme", "supervised"),
        "accuracies gain less than five points from the third quarter of the epochs to the last": float(
            (last.mean("epoch") - before.mean("epoch")).max()
        )
        < 0.05,
        "the supervised encoder that was stopped is as accurate as SimCLR": abs(
            of("linear", MATCHED) - of("linear", "simclr")
        )
        < 0.02,
    }
