"""What the synthesis can be asked to do."""

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from sslnb.core.files import digest, home
from sslnb.studies.presets import Count, Names, Parameters, Preset, distinct

Share = Annotated[float, Field(ge=0, le=1)]


class SynthesisParameters(Parameters):
    """Where the other studies' Results are, and on which images label-free measures are taken."""

    results: str = "runs"  # the folder in which `sslnb run all` leaves Results
    dataset: str | None = None  # of the label-free measures; what the pool was trained on unless given
    others: Names = ("digit-scenes:backgrounds=16",)  # to which checkpoints are transferred
    probe_limit: Annotated[int, Field(ge=2)] | None = 500  # a rerun takes seconds
    test_limit: Annotated[int, Field(ge=2)] | None = 1000
    probe_epochs: Count = 3  # the same
    views: Annotated[int, Field(ge=2)] = 4  # of each image; LiDAR's paper takes 50
    view_images: Annotated[int, Field(ge=2)] = 300
    crop_scale: Annotated[float, Field(gt=0, le=1)] = 0.6  # as in training: a digit stays in the crop
    flip: Share = 0.0  # digits have a handedness
    jitter_strength: Annotated[float, Field(ge=0)] = 0.1

    PRESETS: ClassVar[dict[str, Preset]] = {
        "quick": Preset(0.4, "two CPU cores", "the matrix and the correlations of encoders trained for seconds", {}),
        "small": Preset(
            40,
            "two CPU cores",
            "every member of the pool and its checkpoints on CIFAR-10, transfer to three sets",
            {
                "pool": "small",
                "others": ("cifar100", "stl10", "caltech101"),
                "size": 32,
                "probe_limit": 10_000,
                "test_limit": None,
                "probe_epochs": 20,
                "views": 50,  # as LiDAR's paper
                "view_images": 1000,  # as LiDAR's paper
                "crop_scale": 0.2,  # SimCLR's views, as in the pool's training
                "flip": 0.5,
                "jitter_strength": 0.5,
            },
        ),
        "paper": Preset(
            60,
            "one data-centre GPU",
            "the same at full width",
            {
                "pool": "paper",
                "others": ("cifar100", "stl10", "caltech101"),
                "size": 32,
                "probe_limit": None,
                "test_limit": None,
                "probe_epochs": 100,
                "views": 50,
                "view_images": 1000,
                "crop_scale": 0.2,
                "flip": 0.5,
                "jitter_strength": 0.5,
            },
        ),
    }

    _distinct = field_validator("others")(distinct)

    def contents(self) -> dict[str, str]:
        """Besides what paths hold, the Results that are joined."""
        folder = home(self.results)
        return super().contents() | {str(path): digest(path) for path in sorted(folder.glob("*.json"))}
