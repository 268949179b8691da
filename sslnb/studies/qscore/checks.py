"""What would stop the study later, refused before anything is trained."""

import itertools

from sslnb.core.checks import expect
from sslnb.studies.qscore import pictures
from sslnb.studies.qscore.encoders import splits
from sslnb.studies.study import Context


def check(context: Context) -> None:
    """Refuse sets that encoders do not take or that lack masks, and a layer that the pool's encoders lack."""
    p = context.parameters
    for argument, names in {"datasets": p.datasets, "masked": p.masked, "targets": p.unseen}.items():
        for name in names:
            sets = splits(context, name)
            context.expect_usable(argument, sets)
            if argument == "datasets":
                context.at_most("neighbours", len(sets["train"]))
    for name, split in itertools.product(p.masked, ("train", "val", "test")):
        masks = splits(context, name)[split].masks
        expect(masks is not None, "masked", "sets with masks", f"{name}, whose {split} split has none")
    for name in p.masked:
        context.at_most("heatmap_images", len(splits(context, name)["test"]))
    known = [path for path, _ in context.architecture.named_children()]
    there = pictures.layers(context.architecture, p.heatmap_layer)
    expect(bool(there), "heatmap_layer", f"a layer of the pool's encoders, such as {known}", repr(p.heatmap_layer))
