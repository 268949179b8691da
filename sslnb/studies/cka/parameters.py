"""What the study of layer similarity can be asked to do."""

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, field_validator

from sslnb.metrics.cka import LEAST
from sslnb.studies.presets import Names, Parameters, Preset, distinct, listed

SUPERVISED = "supervised"  # what every other objective is compared with
BANK = 1000  # images among which the explorer's neighbours are looked for
Batch = Annotated[int, Field(ge=LEAST)]
Batches = Annotated[tuple[Batch, ...], BeforeValidator(listed)]

# On two CPU cores; the paper's hardware changes a few of them.
SMALL = {
    "pool": "small",
    "dataset": "cifar10",
    "test_limit": None,
    "jitter_strength": 0.5,  # the views that SimCLR learns from
    "crop_scale": 0.2,
    "flip": 0.5,
    "gram_batch": 256,
    "batch_sizes": (8, 16, 32, 64, 128, 256, 512),
    "estimate_images": 2048,  # four minibatches of the largest size
    "index_images": 2000,
    "permutations": 100,  # the least share of them above a value is a hundredth
    "rounds": 200,  # a bootstrap's deviation is known to 1/√(2 · rounds): 5 %
}


class CkaParameters(Parameters):
    """Which networks are compared layer by layer, on which images, and how the estimate is checked."""

    dataset: str = "digit-scenes"  # whose test images everything is compared on
    compared: Names = ("simclr",)  # with supervised, layer by layer; all others of the pool on the map only
    test_limit: Annotated[int, Field(ge=2 * LEAST)] | None = 1500  # eleven minibatches to draw bootstraps from
    jitter_strength: Annotated[float, Field(ge=0)] = 0.1  # of the views between which invariance is measured
    crop_scale: Annotated[float, Field(gt=0, le=1)] = 0.6
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0
    gram_batch: Batch = 128  # images per minibatch of the streamed estimate
    batch_sizes: Batches = (8, 16, 32, 64, 128, 256)  # at which estimates are compared with the exact value
    estimate_images: Batch = 512  # of that comparison: two minibatches of the largest size
    index_images: Batch = 500  # of the comparison of indices, more than any layer has channels
    permutations: Annotated[int, Field(ge=2)] = 40  # of the null: two of them lie above its 95th percentile
    rounds: Annotated[int, Field(ge=2)] = 100  # of the bootstrap over minibatches, whose deviation is known to 7 %
    neighbours: Annotated[int, Field(ge=1, lt=BANK)] = 5  # shown for an image in the explorer: a row of the page

    PRESETS: ClassVar[dict[str, Preset]] = {
        "quick": Preset(0.6, "two CPU cores", "every panel, on networks that have learned little", {}),
        "small": Preset(
            26,  # measured, beside other work
            "one CPU core",
            "the poster's panels on ResNet-18 of width 16",
            SMALL,
        ),
        "paper": Preset(
            60,
            "one data-centre GPU",
            "the poster's ResNet-50",
            SMALL
            | {
                "pool": "paper",
                "batch_sizes": (8, 16, 32, 64, 128, 256),
                "estimate_images": 1024,
                "index_images": 5000,
            },
        ),
    }

    _distinct = field_validator("compared", "batch_sizes")(distinct)
