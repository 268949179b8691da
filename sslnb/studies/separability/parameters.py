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
    attack_limit: Count = 200  # test features that PGD attacks, of each class twenty
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
        # Nobody has run it yet: minutes and memory are expected from the number of images, of encoders and of probes.
        "paper": Preset(
            240,
            "one data-centre GPU, 128 GB of memory",
            "Table 1 and figures 2 to 8 on the paper's seven sets, for its five methods and five later ones; S2"
            " and S4, which need three seeds, stay untested: one encoder of each method is public",
            {
                "pool": "public",
                # ImageNet and cars have to be placed by hand.
                "datasets": ("imagenet", "flowers102", "caltech101", "aircraft", "cifar10", "cifar100", "cars"),
                "size": 224,  # what the encoders learned from; the paper does not say how it scaled CIFAR's 32 px
                "probe_limit": 50_000,  # all of every set but ImageNet, whose 1.15 million images would fill 173 GB
                "probe_epochs": 100,
                "attack_limit": 10_000,
            },
        ),
    }

    _distinct = field_validator("datasets")(distinct)

    def images_of(self, claim: str) -> tuple[str, ...]:
        return tuple(self.datasets[:1] if claim == "S5" else self.datasets)
