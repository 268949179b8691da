"""The encoders of the study of SimCLR and RotNet: each run trained once, whichever step asks for it."""

import functools
from collections.abc import Mapping

from sslnb import data
from sslnb.core.checks import expect
from sslnb.data.images import ImageSet, at_most
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.load import load_encoder
from sslnb.encoders.resnet import adopt, untrained
from sslnb.studies.simclr_rotnet.parameters import Parameters
from sslnb.training.cache import Checkpoints, cached_checkpoints


class Encoders:
    """Encoders at the steps of their runs, in the shared cache; ``reasons`` names what went wrong, once."""

    def __init__(self, parameters: Parameters, source: ImageSet) -> None:
        self.parameters, self.source = parameters, source
        self.trained, self.reasons = 0, {}
        self._failed: dict[str, Checkpoints] = {}
        self.initial = functools.cache(self._initial)
        kind, _, name = (parameters.initial or "").partition(":")
        self._elsewhere, self._supplied = None, None
        if "initialised" not in parameters.variants:
            return
        if kind == "supervised":
            side = parameters.size or source.images.shape[-1]
            self._elsewhere = at_most(data.load(name, "train", size=side), parameters.limit)
        else:
            self._supplied = load_encoder(parameters.initial)
            adopt(self.untrained(0), self._supplied)  # refused now rather than after hours of training

    def at_steps(
        self,
        objective: str,
        batch_size: int,
        seed: int,
        images: ImageSet | None = None,
        initial: Encoder | None = None,
        **changes: object,
    ) -> Mapping[int, Encoder]:
        """Encoders of one run at all steps that it reached."""
        images = images or self.source
        config = self.parameters.config(objective, batch_size, seed, len(images), **changes)
        run = f"{config} {images.checksum()} {initial is not None}"
        if run in self._failed:
            return self._failed[run].encoders
        checkpoints = cached_checkpoints(config, images, self.parameters.steps, initial)
        self.trained += not checkpoints.reused
        if checkpoints.reason:
            begun = "" if initial is None else ", begun from given weights"
            differs = "".join(f", {name} {value}" for name, value in changes.items())
            name = f"{objective} on {images.name}, batch {batch_size}, seed {seed}{differs}{begun}"
            self._failed[run], self.reasons[name] = checkpoints, checkpoints.reason
        return checkpoints.encoders

    def untrained(self, seed: int) -> Encoder:
        """The study's network with the weights that the seed draws."""
        p = self.parameters
        return untrained(seed, p.depth, width=p.width, stem=p.stem, in_channels=self.source.images.shape[1])

    def _initial(self, seed: int) -> Encoder | None:
        """The study's network with the weights that a variant begins from: somebody's, or those of supervised training
        on another set (None where that went wrong)."""
        p, encoder = self.parameters, self._supplied
        if self._elsewhere is not None:
            encoder = self.at_steps("supervised", p.variant_batch, seed, self._elsewhere).get(p.steps[-1])
        return None if encoder is None else adopt(self.untrained(seed), encoder)


def expect_usable(parameters: Parameters, source: ImageSet, encoder: Encoder | None, deviation: float) -> None:
    """``ValueError`` for what would stop the study after hours of training.

    ``deviation`` is the largest of the channels' deviations, in which attack budgets are counted.
    """
    channels, classes = source.images.shape[1], len(source.classes)
    target_channels = data.load(parameters.target, "test", size=parameters.sizes[0]).images.shape[1]
    expect(
        target_channels == channels,
        "target",
        f"images of {channels} channels, as {parameters.dataset}",
        target_channels,
    )
    if encoder is not None:
        expect(encoder.in_channels == channels, "encoder", f"one for {channels} channels", encoder.in_channels)
    for name in ("attack_limit", "probe_limit", "test_limit"):
        value = getattr(parameters, name)
        expect(value is None or value >= classes, name, f"at least one image for each of {classes} classes", value)
    wanted = f"at most {1 / deviation:.2f}, from the darkest to the brightest pixel"
    expect(parameters.largest_budget <= 1 / deviation, "largest_budget", wanted, parameters.largest_budget)
