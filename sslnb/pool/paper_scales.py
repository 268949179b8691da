"""The pools at the papers' scale, for one data-centre GPU: nobody has trained them yet."""

from sslnb.pool.grids import GRID, grid
from sslnb.pool.members import Scale, Variant

_PLAIN = ("supcon", "simclr", "moco", "rotnet", "byol", "vicreg", "barlow_twins")
_LATER = ("swav", "dino", "simsiam", "pirl", "cmc", "infomin", "lejepa")

# ResNet-18 of full width on CIFAR-10 at its own 32 px, each objective's own published settings, which its file states.
# At 3 s an epoch of SimCLR on an H200, ten minutes a member; a ResNet-50 of full width takes some five times that.
PAPER = Scale(
    name="paper",
    dataset="cifar10",
    shared={"width": 64, "batch_size": 512, "crop_scale": 0.2, "flip": 0.5, "epochs": 200},
    variants={
        "supervised": Variant(4, every_epoch=40),  # to find SimCLR's accuracy among them
        "supervised_simclr_views": Variant(
            3, "supervised", options={"simclr_views": True}, label="Supervised, SimCLR's views"
        ),
        **{name: Variant(4 if name in ("supcon", "simclr") else 3) for name in _PLAIN},
        **{name: Variant(1) for name in _LATER},
        # Attacks of half the pixels' range in l2, Madry's and later benchmarks' budget on CIFAR-10.
        "robust": Variant(2, "supervised", options={"attack_budget": 0.5, "attack_steps": 7}),
        "supervised-deep": Variant(2, "supervised", {"depth": 50}, label="Supervised, ResNet-50"),
        "simclr-deep": Variant(2, "simclr", {"depth": 50}, label="SimCLR, ResNet-50"),
    },
)

# The report's grid at its full width and its 32 px; rates, steps and departures as in the small one.
PAPER_GRID = grid(
    "paper-grid",
    dataset="cifar10",
    size=32,
    view_size=None,
    seeds=3,
    steps=(100, 200, 500, 1000, 2000, 5000, 10_000),
    batch_sizes=(32, 64, 128, 256, 512),
    middle=128,
    depths=(18, 50),
    target="stl10",
    unlabelled="unlabeled",
    elsewhere="cifar100",
    shared={"width": 64, "crop_scale": 0.2, "flip": 0.5},
    rates={"simclr": 0.001, "rotnet": 0.01, "supervised": 0.0125},
    optimizers={"simclr": "adam", "rotnet": "sgd", "supervised": "sgd"},
    options={"temperature": 0.5, "projection_dim": 128},
    departures=GRID.departures,
)
