"""What the study of separability can be asked to do."""

from typing import ClassVar

from pydantic import field_validator

from sslnb.studies.presets import Count, Names, Parameters, Preset, distinct


class SeparabilityParameters(Parameters):
    """Which encoders are probed on which sets, and how hard the probes are attacked."""

    datasets: Names = ("digit-scenes", "digit-scenes:backgrounds=16")  # on more backgrounds than in training, too
    probe_limit: Count | None = 2000  # training images per probe; None takes all
    test_limit: Count | None = None
    probe_epochs: Count = 15  # by which the probes' validation accuracy has settled
    attack_limit: Count = 500  # test features that PGD attacks
    attack_steps: Count = 50  # with which PGD comes within 1 point of the exact accuracy

    IMAGES = "datasets"
    PRESETS: ClassVar[dict[str, Preset]] = {
        "quick": Preset(1.5, "two CPU cores", "every step, on encoders that have learned little", {}),
        "small": Preset(
            60,
            "two CPU cores",
            "the paper's comparison on four of its sets, ResNet-18 of a fourth of its width",
            {
                "pool": "small",
                "datasets": ("cifar10", "cifar100", "stl10", "caltech101"),
                "size": 32,  # what the encoders were trained on
                "probe_limit": 10_000,  # more raise accuracy by less than two points and cost in proportion
                "probe_epochs": 30,
                "attack_limit": 2000,  # the paper attacks all; two decimals need no more
            },
        ),
        "paper": Preset(
            240,
            "one data-centre GPU",
            "Table 1 and figures 2 to 8",
            {
                "pool": "paper",
                "datasets": ("cifar10", "cifar100", "flowers102", "caltech101", "aircraft", "cars"),
                "size": 32,
                "probe_limit": None,
                "probe_epochs": 100,
                "attack_limit": 10_000,
            },
        ),
    }

    _distinct = field_validator("datasets")(distinct)
