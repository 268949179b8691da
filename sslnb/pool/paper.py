"""The pool at the papers' scale, for one data-centre GPU: nobody has trained it yet."""

from sslnb.pool.members import Scale, Variant

_PLAIN = ("supcon", "simclr", "moco", "rotnet", "byol", "vicreg", "barlow_twins")
_LATER = ("swav", "dino", "simsiam", "pirl", "cmc", "infomin", "lejepa")

# ResNet-18 of full width on CIFAR-10 at its own 32 px, each objective's own published settings, which its file states.
PAPER = Scale(
    name="paper",
    dataset="cifar10",
    shared={"width": 64, "batch_size": 512, "crop_scale": 0.2, "flip": 0.5, "epochs": 200},
    variants={
        "supervised": Variant(4, dense_epochs=20),  # to find SimCLR's accuracy among them
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
