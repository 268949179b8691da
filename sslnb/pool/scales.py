"""The pools: one flat block each, with what it costs, what it reaches, and why its values are what they are."""

from sslnb.pool.grids import GRID, PAPER_GRID, QUICK_GRID
from sslnb.pool.members import Plan, Scale, Variant
from sslnb.pool.paper import PAPER
from sslnb.pool.public import PUBLIC

# Digit-scenes while the book is built: two minutes on two cores. Eight objectives of all kinds: labels, labels with
# contrast, contrast in the batch and with a queue, redundancy reduction twice, momentum without negatives, pretext.
# Linear accuracy on validation images (raw pixels 30 %, untrained 27), two seeds: supervised 52 and 56, SimCLR 44 and
# 47, SupCon 37 and 38; the others stay near the floor in so few steps, and are listed as not having learned.
_WEAK = {"jitter_strength": 0.1, "greyscale": 0.0}  # under which a digit stays legible; grey views cost SupCon 4 points
_SHARP = _WEAK | {"temperature": 0.1}
QUICK = Scale(
    name="quick",
    dataset="digit-scenes",
    limit=6000,
    shared={
        "width": 16,  # at 8 channels SimCLR reaches 35 % in the same number of steps
        "stem": "imagenet",  # a sixteenth of the pixels: ten times faster, and digits stay legible
        "steps": 200,  # 16 members in 135 s of two cores
        "epochs": 6,
        "batch_size": 128,
        "optimizer": "adamw",  # learns faster than SGD in so few steps
        "crop_scale": 0.6,  # keeps the digit in the crop
        "flip": 0.0,  # digits have a handedness
    },
    variants={
        "supervised": Variant(2),
        "supcon": Variant(2, options=_SHARP),
        "simclr": Variant(2, options=_SHARP),
        "moco": Variant(2, options=_SHARP | {"queue_size": 2048, "momentum": 0.98}),  # for 200 steps, not 70,000
        "vicreg": Variant(2, options=_WEAK),
        "barlow_twins": Variant(2, options=_WEAK),
        "byol": Variant(2, options=_WEAK | {"momentum": 0.98}),
        "rotnet": Variant(2, options={"one_rotation": True}),  # four of each image take as long as two views twice
    },
    halvings=3,
)

# What members of ``small`` and its pilots share. One thread sees 2.2 times as many images with two views of 20 px as
# with two of 32 px (``benchmarks/run.py pool``), and learns more in the same time.
CIFAR = {
    "width": 16,  # a sixteenth of the paper's compute
    "batch_size": 256,
    "crop_scale": 0.2,
    "flip": 0.5,
}

_IN_BATCH = {"memory": False, "temperature": 0.2}  # SimCLR's temperature, whose loss this is then

# ResNet-18 of width 16 on CIFAR-10's 45,000 training images, 40 epochs of every member: half an hour of one core each,
# and more where others use it too. Supervised members reach 90 % (linear, validation).
SMALL = Scale(
    name="small",
    dataset="cifar10",
    view_size=20,
    shared=CIFAR | {"epochs": 40},
    variants={
        # One view costs half of two: it is seen at the images' own 32 px. Pilots: learning rates of 0.05, 0.1 and 0.2
        # reached 67.0, 70.8 and 72.9 % after five epochs, crops of half the image at least 74.4 at 0.1.
        "supervised": Variant(
            4,
            changes={"learning_rate": 0.2, "crop_scale": 0.5},
            options={"view_size": None},
            dense_epochs=6,  # to find SimCLR's accuracy among them
        ),
        # SimCLR's crops, colours and view size, supervised's learning rate.
        "supervised_simclr_views": Variant(
            3, "supervised", {"learning_rate": 0.2}, {"simclr_views": True}, label="Supervised, SimCLR's views"
        ),
        # In pilots 0.2 reached 57.9 % after five epochs, 0.1 and 0.4 both 55.
        "supcon": Variant(4, changes={"learning_rate": 0.2}, options={"temperature": 0.1}),
        # 0.12 and 0.24 reached 51.7 and 52.0 %, 0.06 49.1; temperatures of 0.1 and 0.5 51.6 and 46.6.
        "simclr": Variant(4, changes={"learning_rate": 0.12}, options={"temperature": 0.2}),
        # A temperature of 0.1 reached 45.3 %, 0.2 45.0.
        "moco": Variant(3, changes={"learning_rate": 0.12}, options={"temperature": 0.1}),
        # One rotation of each image, crops of 24 px: 48.9 % after as many steps as cost what four rotations at 20 px
        # do in five epochs, which reached 44.1; one rotation at 32 px 44.8, four at 24 px 46.4, which cost more.
        "rotnet": Variant(3, options={"one_rotation": True, "view_size": 24}),
        # 0.2 reached 42.2 %.
        "swav": Variant(1, changes={"learning_rate": 0.2}),
        # 0.2 and 0.4 reached 36.0 and 37.7 %.
        "dino": Variant(1, changes={"learning_rate": 0.4}, options={"momentum": 0.98}),
        # 0.2 reached 43.6 %.
        "lejepa": Variant(1, changes={"learning_rate": 0.2}),
        # 0.1 and 0.2 reached 49.2 and 50.6 %, 0.4 diverged.
        "vicreg": Variant(2, changes={"learning_rate": 0.2}),
        # 0.2 reached 35.6 %.
        "barlow_twins": Variant(2, changes={"learning_rate": 0.1}),
        # 0.2 and 0.4 reached 37.0 and 33.6 %, a momentum of 0.98 35.8.
        "byol": Variant(2, changes={"learning_rate": 0.2}),
        # 0.03 and 0.06 reached 28.9 and 32.9 %.
        "simsiam": Variant(1, changes={"learning_rate": 0.12}),
        # ImageNet's strengths, magnitudes of 9 and whole jitter, leave little to see of 20 px: 22.6 %; these 43.4.
        "infomin": Variant(1, changes={"learning_rate": 0.12}, options={"magnitude": 3, "jitter_strength": 0.5}),
        # With a memory, whose embeddings are an epoch old, 0.03, 0.06 and 0.12 reached 32.8, 31.8 and 29.8 %;
        # within the batch 0.12 reached 47.9.
        "cmc": Variant(1, changes={"learning_rate": 0.12}, options=_IN_BATCH),
        # With a memory 0.06 and 0.12 reached 28.4 and 27.4 %, within the batch 0.12 reached 46.0.
        "pirl": Variant(1, changes={"learning_rate": 0.12}, options=_IN_BATCH),
        # As supervised, each image first moved by three steps of an attack: an epoch costs four, so that ten take what
        # forty of the others do. The budget is Madry's and later benchmarks' on CIFAR-10, in l2.
        "robust": Variant(
            2,
            "supervised",
            {"learning_rate": 0.2, "crop_scale": 0.5, "epochs": 10},
            {"view_size": None, "attack_budget": 0.5, "attack_steps": 3},
        ),
    },
)

# Five epochs of each setting that was in doubt, one seed, judged on validation images: at most three values a setting.
PILOTS = Scale(
    name="pilots",
    dataset="cifar10",
    view_size=20,
    shared=CIFAR | {"epochs": 5},
    variants={
        **{
            f"simclr-lr{v}": Variant(1, "simclr", {"learning_rate": v}, {"temperature": 0.2})
            for v in (0.06, 0.12, 0.24)
        },
        **{f"simclr-t{v}": Variant(1, "simclr", {"learning_rate": 0.12}, {"temperature": v}) for v in (0.1, 0.5)},
        **{f"moco-lr{v}": Variant(1, "moco", {"learning_rate": v}) for v in (0.06, 0.12, 0.24)},
        **{f"moco-t{v}": Variant(1, "moco", {"learning_rate": 0.12}, {"temperature": v}) for v in (0.1,)},
        **{f"vicreg-lr{v}": Variant(1, "vicreg", {"learning_rate": v}) for v in (0.1, 0.2, 0.4)},
        "vicreg-d512": Variant(1, "vicreg", {"learning_rate": 0.2}, {"projection_dim": 512}),
        **{f"barlow_twins-lr{v}": Variant(1, "barlow_twins", {"learning_rate": v}) for v in (0.05, 0.1, 0.2)},
        "barlow_twins-d512": Variant(1, "barlow_twins", {"learning_rate": 0.1}, {"projection_dim": 512}),
        **{f"byol-lr{v}": Variant(1, "byol", {"learning_rate": v}) for v in (0.1, 0.2, 0.4)},
        "byol-m0.98": Variant(1, "byol", {"learning_rate": 0.2}, {"momentum": 0.98}),
        **{f"supcon-lr{v}": Variant(1, "supcon", {"learning_rate": v}) for v in (0.1, 0.2, 0.4)},
        **{f"rotnet-{v}px": Variant(1, "rotnet", {}, {"view_size": v}) for v in (20, 24)},
        # As many steps as cost the same: a rotation of each image at 32 px is as dear as four at 16 px.
        "rotnet-one-32px": Variant(1, "rotnet", {"epochs": 8}, {"view_size": None, "one_rotation": True}),
        "rotnet-one-24px": Variant(1, "rotnet", {"epochs": 14}, {"view_size": 24, "one_rotation": True}),
        **{
            f"supervised-lr{v}": Variant(1, "supervised", {"learning_rate": v}, {"view_size": None})
            for v in (0.05, 0.1, 0.2)
        },
        "supervised-crop0.5": Variant(1, "supervised", {"crop_scale": 0.5}, {"view_size": None}),
        "supervised-24px": Variant(1, "supervised", {}, {"view_size": 24}),
        **{f"swav-lr{v}": Variant(1, "swav", {"learning_rate": v}) for v in (0.1, 0.2, 0.4)},
        **{f"dino-lr{v}": Variant(1, "dino", {"learning_rate": v}, {"momentum": 0.98}) for v in (0.1, 0.2, 0.4)},
        **{f"simsiam-lr{v}": Variant(1, "simsiam", {"learning_rate": v}) for v in (0.03, 0.06, 0.12)},
        **{f"infomin-lr{v}": Variant(1, "infomin", {"learning_rate": v}) for v in (0.06, 0.12)},
        # Of ImageNet's strengths little is left to see in a crop of 20 px.
        **{
            f"infomin-m{v}": Variant(1, "infomin", {"learning_rate": 0.12}, {"magnitude": v, "jitter_strength": 0.5})
            for v in (3, 5)
        },
        **{f"cmc-lr{v}": Variant(1, "cmc", {"learning_rate": v}) for v in (0.03, 0.06, 0.12)},
        "cmc-batch": Variant(1, "cmc", {"learning_rate": 0.12}, _IN_BATCH),
        **{f"pirl-lr{v}": Variant(1, "pirl", {"learning_rate": v}) for v in (0.06, 0.12)},
        "pirl-28px": Variant(1, "pirl", {"learning_rate": 0.12}, {"view_size": 28}),  # patches of 9 px instead of 6
        "pirl-batch": Variant(1, "pirl", {"learning_rate": 0.12}, _IN_BATCH),
        **{f"lejepa-lr{v}": Variant(1, "lejepa", {"learning_rate": v}) for v in (0.1, 0.2, 0.4)},
        "supervised_simclr_views": Variant(1, "supervised", {}, {"simclr_views": True}),
    },
    halvings=0,
)

QUICK_POOLS = (QUICK.name, QUICK_GRID.name)  # trained where they are needed: minutes
SCALES: dict[str, Plan] = {
    scale.name: scale for scale in (QUICK, QUICK_GRID, PILOTS, SMALL, GRID, PAPER, PAPER_GRID, PUBLIC)
}
