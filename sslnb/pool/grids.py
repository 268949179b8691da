"""The grids of SimCLR and RotNet: two objectives by batch size, their encoders kept at several steps of each run.

Beside the grid, at one batch size: what the report's published code does otherwise than its text says (see
:data:`DEPARTURES`), another depth, and pretraining on the set that is transferred to.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sslnb.pool.members import Scale, Variant

OBJECTIVES = ("simclr", "rotnet")
# What the published code changes, as fields of PretrainConfig, options of the objective, and a variant to begin with.
DEPARTURES: Mapping[str, Mapping[str, object]] = {
    "cut": {"changes": {"schedule": "cuts"}},
    "per batch": {"options": {"per_batch": True}},
    "unpadded stem": {"changes": {"stem": "unpadded"}},
    "initialised": {"initial": "supervised-elsewhere"},
}
# What the report's text says of each optimizer; it begins at the whole rate and stays there, whatever the batch.
TRAINING = {"simclr": {"weight_decay": 1e-6}, "rotnet": {"weight_decay": 5e-4}, "supervised": {"weight_decay": 0.0}}


@dataclass(frozen=True)
class Grid(Scale):
    """A pool of both objectives at several batch sizes; ``middle`` is the batch size of all else."""

    batch_sizes: tuple[int, ...] = ()
    middle: int = 0
    depths: tuple[int, int] = (18, 18)
    target: str = ""  # that is transferred to
    departures: tuple[str, ...] = ()


def member(objective: str, batch_size: int) -> str:
    """The variant of an objective at a batch size."""
    return f"{objective}-b{batch_size}"


def grid(
    name: str,
    *,
    seeds: int,
    steps: tuple[int, ...],
    batch_sizes: tuple[int, ...],
    middle: int,
    depths: tuple[int, int],
    target: str,
    shared: Mapping[str, object],
    rates: Mapping[str, float],
    options: Mapping[str, object],
    departures: tuple[str, ...],
    optimizers: Mapping[str, str],
    elsewhere: str = "",
    unlabelled: str = "train",
    **fields: object,
) -> Grid:
    """A grid's plan; ``options`` are SimCLR's, ``elsewhere`` the set of the supervised weights to begin with.

    ``unlabelled`` is the split of the target that SimCLR learns from.
    """

    def variant(objective: str, batch_size: int, seeds: int = seeds, **more: object) -> Variant:
        own = {"batch_size": batch_size, "optimizer": optimizers[objective], **TRAINING[objective]}
        own["learning_rate"] = rates[objective] * 256 / batch_size  # which the training loop scales by the batch
        changes = own | dict(more.pop("changes", {}))
        all_options = (dict(options) if objective == "simclr" else {}) | dict(more.pop("options", {}))
        if objective == "supervised":
            all_options["view_size"] = None
        return Variant(seeds, objective, changes, all_options, **more)

    cells = {member(o, b): variant(o, b) for o in OBJECTIVES for b in batch_sizes}
    cells |= {f"{o}-deep": variant(o, middle, changes={"depth": depths[1]}) for o in OBJECTIVES}
    cells |= {f"{o}-{d}".replace(" ", "-"): variant(o, middle, **DEPARTURES[d]) for d in departures for o in OBJECTIVES}
    cells["supervised"] = variant("supervised", middle)
    cells["supervised-target"] = variant("supervised", middle, dataset=target)
    cells["simclr-target"] = variant("simclr", middle, dataset=target, split=unlabelled)
    if "initialised" in departures:
        cells["supervised-elsewhere"] = variant("supervised", middle, dataset=elsewhere)
    constant = {"schedule": "constant", "warmup": 0.0, "depth": depths[0], "steps": steps[-1]}
    # So many epochs that the steps end every run, also of the smallest batch on the smallest set.
    shared = dict(shared) | constant | {"epochs": steps[-1]}
    plan = {"shared": shared, "variants": cells, "halvings": 0, "steps": steps, "batch_sizes": batch_sizes}
    return Grid(name, **plan, middle=middle, depths=depths, target=target, departures=departures, **fields)


QUICK_GRID = grid(
    "quick-grid",
    dataset="digit-scenes",
    limit=6000,
    seeds=2,
    steps=(20, 40, 80),
    batch_sizes=(32, 128),
    middle=32,
    depths=(18, 34),
    target="digit-scenes:backgrounds=16",
    shared={"width": 8, "stem": "imagenet", "crop_scale": 0.5, "flip": 0.0},
    rates={"simclr": 0.002, "rotnet": 0.002, "supervised": 0.05},  # of Adam as training/optim has it
    optimizers={"simclr": "adam", "rotnet": "adam", "supervised": "sgd"},
    options={"temperature": 0.1, "jitter_strength": 0.1, "projection_dim": 128},  # as the quick pool's views
    departures=("cut", "per batch"),
)

# The report's experiment: CIFAR-10, with STL-10 as the other set; one learning rate for every batch size.
REPORT = {
    "dataset": "cifar10",
    "size": 32,
    "seeds": 3,
    "batch_sizes": (32, 64, 128, 256, 512),
    "middle": 128,
    "depths": (18, 50),
    "target": "stl10",
    "unlabelled": "unlabeled",
    "elsewhere": "cifar100",
    "rates": {"simclr": 0.001, "rotnet": 0.01, "supervised": 0.0125},
    "optimizers": {"simclr": "adam", "rotnet": "sgd", "supervised": "sgd"},
    "options": {"temperature": 0.5, "projection_dim": 128},
    "departures": tuple(DEPARTURES),
}
VIEWS = {"crop_scale": 0.2, "flip": 0.5}

# At a sixteenth of the compute: a fourth of the width, crops of 20 px.
GRID = grid("grid", **REPORT, view_size=20, steps=(100, 200, 500, 1000, 2000, 3000), shared=VIEWS | {"width": 16})

# At the report's full width and 32 px. Nobody has trained it yet.
PAPER_GRID = grid("paper-grid", **REPORT, steps=(100, 200, 500, 1000, 2000, 5000, 10_000), shared=VIEWS | {"width": 64})
