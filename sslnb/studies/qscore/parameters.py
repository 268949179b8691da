"""What the study of representation quality can be asked to do."""

from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from sslnb.studies.presets import Count, Names, Parameters, Preset, distinct, listed

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Grid = Annotated[tuple[NotNegative, ...], BeforeValidator(listed)]
Percentile = Annotated[float, Field(ge=0, le=100)]
CANDIDATES = (4.0, 3.5, 3.0, 2.5, 2.0)  # for epsilon; the paper's, with 2,048 features, is the first
MOST_EMPTY = 0.05  # share of the images that may have no highly activating feature

# On two CPU cores; the paper's hardware changes a few of them.
SMALL = {
    "pool": "small",
    "datasets": ("cifar10", "cifar100", "stl10"),
    "masked": ("stl10", "digit-scenes", "digit-scenes:background_bias=0.95"),
    "targets": ("cifar100", "stl10", "caltech101"),
    "size": 32,  # what the encoders were trained on
    "shares": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),  # Q3 and Q5 are means over 0.1 to 0.6
    "regularized": ("simclr",),  # of the self-supervised members the one with three seeds, which Q7, Q8 and Q11 need
    "further_steps": 875,  # five epochs
    "further_rates": (0.012, 0.12),  # SimCLR's in the pool, and a tenth of it
    "weights": (0.0, 1e-4, 1.0, 10.0),  # none, the paper's, and up to a hundred thousand times that
    "norm_weights": (0.0, 1e-4, 1e-3),  # none, the paper's, and ten times that
    "heatmap_layer": "layer3",  # 8 × 8 pixels
    "heatmap_images": 1000,
    "views": 8,  # the share of them that agree is then known in steps of an eighth
    "neighbours": 50,  # as Sun et al. 2022 on CIFAR-10
    "rounds": 200,  # a bootstrap's deviation is known to 1/√(2 · rounds): 5 %
    "probe_limit": 10_000,  # as in the study of separability: more raise accuracy by less than two points
    "test_limit": 5000,  # accuracies to 0.7 points, one standard error
    "probe_epochs": 30,  # as in the study of separability
}


class QScoreParameters(Parameters):
    """Which encoders are scored on which sets, and how they are trained on with the score as a penalty."""

    datasets: Names = ("digit-scenes",)  # to probe and score on; figures and the penalty are of the first
    masked: Names = ("digit-scenes", "digit-scenes:background_bias=0.95")  # with masks of the object, for heatmaps
    targets: Names = ("digit-scenes:backgrounds=16",)  # for the transfer of encoders that were trained on
    # Deviations from which a feature is highly activating; unless given the greatest of 4, 3.5, 3, 2.5 and 2 at which
    # at most 5 % of the pool's training images have no such feature.
    epsilon: NotNegative | None = None
    low: Percentile = 50.0  # of the activation rates, between which features count as discriminative
    high: Percentile = 95.0
    epsilons: Grid = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)  # of the sensitivity, ascending: the candidates, and below them
    lows: Grid = (0.0, 25.0, 50.0, 75.0)  # the same, of the band's lower end: no lower end, and on both sides of 50
    # Of the features that probes keep, ascending, the last 1; Q3 to Q5 need 0.1 and 0.6.
    shares: Grid = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    random_subsets: Count = 4  # of features, drawn anew for each share: halves the deviation of one draw
    regularized: Names = ("simclr",)  # trained on with and without the penalty; of the quick pool it has learned
    further_steps: Count = 10  # of training on: a twentieth of the pool's 200, so that the step takes seconds
    # Learning rates of training on, below and above AdamW's 0.002; validation picks the one of plain training.
    further_rates: Grid = (3e-4, 3e-3)
    weight: NotNegative = 1e-4  # λ₁, of the Q-Score: the paper's
    norm_weight: NotNegative = 1e-4  # λ₂, of the columns' norms: the paper's
    weights: Grid = (10.0,)  # λ₁ of the ablation, ascending: a hundred thousand times the paper's
    norm_weights: Grid = (0.0, 1e-3)  # λ₂ of the ablation: none, and ten times the paper's
    heatmap_layer: str = "layer2"  # whose maps become heatmaps: the last with 4 × 4 pixels, of the imagenet stem
    heatmap_images: Count = 200  # test images whose heatmaps are compared with masks
    views: Annotated[int, Field(ge=2)] = 2  # of each test image, whose agreement is a score
    neighbours: Count = 20  # k: density is the similarity to the k-th nearest training image
    rounds: Annotated[int, Field(ge=2)] = 50  # of the bootstrap, whose deviation is then known to 10 %
    probe_limit: Annotated[int, Field(ge=2)] | None = 2000  # training images per probe, and of the activation rates
    test_limit: Annotated[int, Field(ge=2)] | None = 1000  # accuracies to 1.6 points, one standard error
    probe_epochs: Count = 12  # of many probes: one for each subset, share and seed

    IMAGES = "datasets"
    PRESETS: ClassVar[dict[str, Preset]] = {
        "quick": Preset(1.3, "two CPU cores", "every step, on encoders that have learned little", {}),
        "small": Preset(
            150,
            "two CPU cores",
            "the paper's figures and Table A.1 on its three smaller sets, ResNet-18 of a fourth of its width",
            SMALL,
        ),
        "paper": Preset(
            600,
            "one data-centre GPU",
            "the same with the paper's width and 50 epochs of training on",
            SMALL
            | {
                "pool": "paper",
                "masked": ("stl10",),
                "epsilon": 4.0,
                "regularized": ("simclr", "moco", "byol", "vicreg"),
                "further_steps": 8750,  # 50 epochs, as the paper's longest
                "heatmap_images": 500,
                "probe_limit": None,
                "test_limit": None,
                "probe_epochs": 100,
            },
        ),
    }

    _distinct = field_validator(
        *("datasets", "masked", "targets", "regularized", "epsilons", "lows", "shares", "further_rates"),
        *("weights", "norm_weights"),
    )(distinct)

    @field_validator("epsilons", "lows", "shares", "further_rates", "weights", "norm_weights")
    @classmethod
    def _ascending(cls, values: tuple) -> tuple:
        if not values or list(values) != sorted(values):
            raise ValueError(f"expected ascending values, got {values}")
        return values

    @field_validator("shares")
    @classmethod
    def _whole(cls, values: tuple) -> tuple:
        if not (values[0] > 0 and values[-1] == 1):
            raise ValueError(f"expected values in (0, 1], the last 1, got {values}")
        return values

    @model_validator(mode="after")
    def _band(self) -> Self:
        if not max(self.low, *self.lows) < self.high:
            raise ValueError(f"low, lows, high: expected low ends below high, got {(self.low, self.lows, self.high)}")
        return self

    def images_of(self, claim: str) -> tuple[str, ...]:
        own = {"Q7": self.datasets[:1], "Q8": self.datasets[:1], "Q9": self.masked, "Q11": self.unseen}
        return tuple(own.get(claim, self.datasets))

    @property
    def unseen(self) -> tuple[str, ...]:
        """Targets that no probe of the main comparison is on anyway, in the order given."""
        return tuple(name for name in self.targets if name != self.datasets[0])
