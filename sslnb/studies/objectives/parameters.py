"""What the page on training objectives can be asked to do."""

from typing import Annotated, ClassVar

from pydantic import Field

from sslnb.studies.presets import Count, Parameters, Preset


class ObjectivesParameters(Parameters):
    """Which members of a pool are shown, and how their features are tested."""

    dataset: str | None = None  # to test on; what the pool was trained on unless given
    probe_limit: Annotated[int, Field(ge=2)] | None = 2000  # training images for kNN and linear probe
    test_limit: Annotated[int, Field(ge=2)] | None = None
    probe_epochs: Count = 15  # as in the study of separability, by which validation accuracy has settled

    PRESETS: ClassVar[dict[str, Preset]] = {
        "quick": Preset(0.6, "two CPU cores", "every member of the pool, trained for two minutes", {}),
        "small": Preset(
            15,
            "two CPU cores",
            "every member of the pool on CIFAR-10",
            {"pool": "small", "probe_limit": 10_000, "probe_epochs": 30},  # as the study of separability
        ),
        "paper": Preset(
            30,
            "one data-centre GPU",
            "the same at full width",
            {"pool": "paper", "probe_limit": None, "probe_epochs": 100},
        ),
    }
