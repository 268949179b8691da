"""What the study of SimCLR and RotNet can be asked to do."""

from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from sslnb.studies.presets import Count, Counts, Parameters, Preset, distinct, listed

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Several = Annotated[int, Field(ge=2)]
Share = Annotated[float, Field(gt=0, le=1)]

# On two CPU cores; the paper's hardware changes a few of them.
SMALL = {
    "pool": "grid",
    "dataset": "cifar10",
    "target": "stl10",
    "size": 32,  # what the encoders were trained on
    "sizes": (32, 96),  # the report's is the second
    "fractions": (0.01, 0.1, 0.5),  # the report's
    "tune_epochs": (60, 30, 10),  # 420, 2,100 and 3,510 steps: fewer labels are more epochs, and still fewer steps
    "tune_flip": 0.5,  # pictures, unlike digits, have no handedness
    "budgets": 10,
    "attack_limit": 500,  # accuracies to 2.2 points, one standard error; of all networks the same images
    "probe_limit": 10_000,  # as in the study of separability: more raise accuracy by less than two points
    "test_limit": None,
}


class RotNetParameters(Parameters):
    """On which sets a grid of SimCLR and RotNet encoders is judged, fine-tuned and attacked."""

    pool: str = "quick-grid"  # a grid of both objectives by batch size and steps
    dataset: str = "digit-scenes"  # to probe, fine-tune and attack on
    target: str = "digit-scenes:backgrounds=16"  # the other set of the transfers
    sizes: Counts = (32,)  # sides in pixels at which the target is seen
    fractions: Annotated[tuple[Share, ...], BeforeValidator(listed)] = (0.01, 0.1)  # of the labels, ascending
    tune_epochs: Counts = (20, 6)  # of fine-tuning, for each fraction; as many from random weights
    tune_batch: Several = 64  # batch size of fine-tuning
    tune_rate: Positive = 0.05  # its learning rate, per 256 images
    tune_crop: Share = 0.5  # least area of a crop in fine-tuning
    tune_flip: Annotated[float, Field(ge=0, le=1)] = 0.0  # digits have a handedness
    budgets: Several = 6  # number of attack budgets, 0 included
    largest_budget: Positive = 0.275  # in units of the normalised images: the report's
    attack_steps: Count = 10
    attack_limit: Count | None = 300  # test images that are attacked: to 3 points, one standard error
    probe_limit: Several | None = 2000  # training images per probe
    test_limit: Several | None = 1000  # accuracies to 1.6 points, one standard error
    probe_epochs: Count = 10  # of many probes: one for each run of the grid at each of its steps
    cost_repeats: Several = 3  # of the timing of a step; the unit of R9, which needs three

    PRESETS: ClassVar[dict[str, Preset]] = {
        "quick": Preset(1.1, "two CPU cores", "every step, on encoders that have learned little", {}),
        "small": Preset(
            120,
            "two CPU cores",
            "the report's figures and tables, ResNet-18 of a fourth of its width, at most 3,000 of its 5,000 steps",
            SMALL,
        ),
        "paper": Preset(
            600,
            "one data-centre GPU",
            "the report's ResNet-50 at its full width",
            SMALL | {"pool": "paper-grid", "attack_limit": None, "probe_limit": None, "probe_epochs": 100},
        ),
    }

    _distinct = field_validator("sizes", "fractions")(distinct)

    @field_validator("pool")
    @classmethod
    def _grid(cls, name: str) -> str:
        if not name.endswith("grid"):
            raise ValueError(f"expected a grid of both objectives, such as 'grid' or 'quick-grid', got {name!r}")
        return name

    def images_of(self, claim: str) -> tuple[str, ...]:
        return {"R6": (self.dataset, self.target), "R7": (self.target,)}.get(claim, (self.dataset,))

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        if list(self.fractions) != sorted(self.fractions):
            raise ValueError(f"fractions: expected ascending values, got {self.fractions}")
        if len(self.tune_epochs) != len(self.fractions):
            raise ValueError(
                f"tune_epochs: expected one for each of {len(self.fractions)} fractions, got {self.tune_epochs}"
            )
        return self
