"""What a report card can be asked to do."""

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, field_validator

from sslnb.encoders.description import named
from sslnb.studies.presets import Count, Names, Parameters, Preset, distinct, listed

Share = Annotated[float, Field(ge=0, le=1)]


def _as_specs(value: object) -> object:
    """Encoders as ``load_encoder`` names them: a file's name alone is a checkpoint."""
    names = listed(value) if value is not None else ()
    return tuple(named(str(name)) for name in names) or None


class ReportCardParameters(Parameters):
    """Which encoders get a card, on which images, beside which others."""

    encoder: Annotated[Names | None, BeforeValidator(_as_specs)] = ("pool:quick/simclr/1",)  # one, or several
    dataset: str | None = None  # to measure on; the test split of what the pool was trained on unless given
    seeds: Count = 1  # of each objective of the pool, beside which the encoders are set
    probe_limit: Annotated[int, Field(ge=2)] | None = 1000  # training images for probes and heads
    test_limit: Annotated[int, Field(ge=2)] | None = 1000
    probe_epochs: Count = 5
    head_epochs: Count = 10
    attack_limit: Annotated[int, Field(ge=2)] = 100  # test images whose pixels are attacked
    attack_steps: Count = 5
    views: Annotated[int, Field(ge=2)] = 4  # of each image; LiDAR's paper takes 50
    view_images: Annotated[int, Field(ge=2)] = 300
    crop_scale: Annotated[float, Field(gt=0, le=1)] = 0.6  # a digit stays in the crop
    flip: Share = 0.0  # digits have a handedness
    jitter_strength: Annotated[float, Field(ge=0)] = 0.1

    PRESETS: ClassVar[dict[str, Preset]] = {
        "quick": Preset(0.5, "two CPU cores", "an example: one of the quick pool's own encoders", {}),
        "small": Preset(
            5,
            "two CPU cores",
            "an encoder of your own beside those that come with the book, on images of yours",
            {
                "pool": "small",
                "encoder": None,
                "probe_limit": 4000,
                "test_limit": 2000,
                "probe_epochs": 20,
                "head_epochs": 20,
                "attack_limit": 250,
                "attack_steps": 10,
                "views": 10,  # a fifth of LiDAR's paper
                "view_images": 500,
                "crop_scale": 0.2,  # SimCLR's views
                "flip": 0.5,
                "jitter_strength": 0.5,
            },
        ),
        "paper": Preset(
            60,
            "one data-centre GPU",
            "the same with the views and images of the measures' papers",
            {
                "pool": "small",
                "encoder": None,
                "probe_limit": None,
                "test_limit": None,
                "probe_epochs": 100,
                "head_epochs": 30,
                "attack_limit": 1000,
                "attack_steps": 20,
                "views": 50,
                "view_images": 1000,
                "crop_scale": 0.2,
                "flip": 0.5,
                "jitter_strength": 0.5,
            },
        ),
    }

    @field_validator("encoder")
    @classmethod
    def _each_once(cls, names: Names | None) -> Names | None:
        return names and distinct(names)
