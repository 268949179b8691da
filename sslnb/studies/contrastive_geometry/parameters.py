"""What the study of contrastive geometry can be asked to do."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from sslnb.studies.presets import Count, Counts, Names, Parameters, Preset, distinct

PAPER_TASKS = ("0 1 2 3 4", "6 11 16 21 26", "56 58 62 66 68", "95 96 97 98 99")  # of CIFAR-100
Several = Annotated[int, Field(ge=2)]

# On two CPU cores; the paper's hardware changes a few of them.
SMALL = {
    "pool": "small",
    "target": "cifar100",
    "task_limit": None,
    "head_batch": 256,  # as in pretraining, the paper's too
    "samples": 500,  # all validation images of a task
    "surface_points": 21,  # a sixth of the losses that 51 would take
    "surface_images": 512,
    "flat_directions": 10,  # their mean's error is a third of one direction's
    "curvature_steps": 20,  # the table says in how many runs the eigenvalue has settled
    "probes": 10,  # as many: the trace's error falls with their root
    "pgd_budgets": (1, 2, 4, 8, 15),  # up to the largest of FGSM
    "attack_steps": 10,
    "attack_limit": 250,  # accuracies to 3 points in a task, one standard error
    "mean_images": 2000,
    "rounds": 200,  # a bootstrap's deviation is known to 1/√(2 · rounds): 5 %
}


class GeometryParameters(Parameters):
    """Which encoders are fine-tuned on which small tasks, and what is measured of the classifiers."""

    target: str = "digit-scenes:contrast=0.6,seed=1"  # of the tasks; its test split is called validation images
    # Classes of each task by number, as many in each; without any the paper's of CIFAR-100, of other sets five classes
    # at a time, in their order.
    tasks: Names | None = None
    task_limit: Several | None = 600  # training images of each task
    compared: Names = ("simclr", "supcon", "supervised")  # in figures of single runs; the paper's three
    tuning: Literal["head", "full"] = (
        "head"  # a linear layer on the frozen encoder, as in the paper's code; all weights
    )
    epochs: Count = 30  # of fine-tuning: the paper's
    # Its learning rate, of the paper's code; of whole networks per 256 images, and constant.
    head_rate: Annotated[float, Field(gt=0)] = 0.1
    head_batch: Several = 64
    samples: Annotated[int, Field(ge=10)] = 200  # of each task and split, over which models are compared
    surface_points: Annotated[int, Field(ge=3)] = 15  # along each side of the loss surface, odd
    surface_images: Several = 128  # over which losses and curvatures are means
    flat_directions: Count = 3  # over which the rise is measured
    curvature_steps: Count = 8  # of the power iteration, at most
    probes: Several = 3  # of the Hessian's trace
    budgets: Counts = tuple(range(1, 16))  # of FGSM, in 255ths, ascending; 0 is added
    pgd_budgets: Counts = (1, 2, 4, 8)  # of PGD, the same
    attack_steps: Count = 5  # of PGD
    attack_limit: Several | None = 100  # images of each task that are attacked: to 5 points, one standard error
    mean_images: Several = 500  # of the pretraining set, for class means and for their test
    rounds: Several = 40  # of the bootstrap over images, whose deviation is then known to 11 %

    IMAGES = "target"
    PRESETS: ClassVar[dict[str, Preset]] = {
        "quick": Preset(1.2, "two CPU cores", "every step, on encoders that have learned little", {}),
        # Two and a half hours on two cores of 36 GFLOP/s; minutes are for cores three times as fast, from its parts.
        "small": Preset(
            90,
            "two CPU cores",
            "the paper's figures 1 and 2 and Table 1, CIFAR-10 to CIFAR-100, ResNet-18 of a fourth of its width",
            SMALL,
        ),
        "paper": Preset(
            120,
            "one data-centre GPU",
            "the paper's ResNet-18",
            SMALL | {"pool": "paper", "attack_limit": None},
        ),
    }

    _distinct = field_validator("compared", "budgets", "pgd_budgets")(distinct)

    @field_validator("budgets", "pgd_budgets")
    @classmethod
    def _ascending(cls, values: tuple) -> tuple:
        if list(values) != sorted(values):
            raise ValueError(f"expected ascending values, got {values}")
        return values

    @field_validator("surface_points")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"expected an odd number, got {value}")
        return value

    @field_validator("tasks")
    @classmethod
    def _tasks(cls, tasks: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for task in tasks or ():
            words = task.split()
            if not all(word.isdecimal() for word in words) or len(set(words)) < max(2, len(words)):
                raise ValueError(f"expected distinct numbers of two or more classes, as in '0 1 2', got {task!r}")
        if len({len(task.split()) for task in tasks or ()}) > 1:
            raise ValueError(f"expected as many classes in each, got {tasks}")
        return tasks
