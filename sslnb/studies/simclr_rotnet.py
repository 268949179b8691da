"""SimCLR against RotNet (Chen, Hsu and Jang 2023): the study's steps."""

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from sslnb import attacks, cost, data, device
from sslnb.checks import expect
from sslnb.encoder_cache import Checkpoints, cached_checkpoints
from sslnb.encoders import Encoder, load_encoder, untrained
from sslnb.features import Standardizer, as_float, extract
from sslnb.finetune import Classifier, fine_tune, label_fraction, with_probe
from sslnb.images import ImageSet, at_most
from sslnb.probe import LinearProbe, LinearProbeGrid
from sslnb.results import Result
from sslnb.scores import scores
from sslnb.studies import simclr_rotnet_claims as decisions
from sslnb.studies.base import BaseStudy, step
from sslnb.studies.simclr_rotnet_parameters import Parameters

SCORES = ("top1", "top2", "top3", "auc")  # last axis of most arrays
UNITS = ("normalised", "pixel")  # of the attacks' budgets
ATTACKS = ("fgsm", "pgd")
STEP = 1.85  # a PGD step in units of eps / steps: what the report's "alpha = 1.85" multiplies in its code
SHOWN = 4  # images in the explorer


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three splits of a labelled set, the training one cut to what probes see."""

    train: ImageSet
    val: ImageSet
    test: ImageSet


class Study(BaseStudy):
    """Linear evaluation → label fractions → attacks → transfer → architectures → the published code's departures.

    Arrays are indexed in the order of their names in ``scalars`` (objectives, batch sizes, steps, …), the seed second
    to last and the score last (``SCORES``); what did not converge is NaN, and ``scalars["reasons"]`` says why.
    """

    name = "simclr_rotnet"
    decisions = decisions
    parameters: Parameters

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.runs: dict[tuple, dict[int, Encoder]] = {}  # (objective, batch size, seed, "") → step → encoder
        self.tuned: dict[tuple[int, int, int], Classifier] = {}  # (method, fraction, seed)
        self.source: ImageSet | None = None
        self.splits: Splits | None = None
        self.given: Encoder | None = None

    @step
    def linear(self) -> Result:
        """Pretrain with every batch size, and probe the encoders at every number of steps, on the source's test set."""
        p = self.parameters
        for name in (p.dataset, p.target):
            data.find(name)  # refused now rather than after hours of training
        self.given = load_encoder(p.encoder).eval() if p.encoder else None
        self.source = data.load(p.dataset, "train", size=p.size, limit=p.limit)
        self.splits = self._load(p.dataset, p.size)
        channels = [images.images.shape[1] for images in (self.source, data.load(p.target, "test", size=p.sizes[0]))]
        expect(channels[0] == channels[1], "target", f"images of {channels[0]} channels, as {p.dataset}", channels[1])
        reach = float(1 / self._normalisation()[1].max())
        wanted = f"at most {reach:.2f}, from the darkest to the brightest pixel"
        expect(p.largest_budget <= reach, "largest_budget", wanted, p.largest_budget)
        runs = [(o, b, s) for o in range(len(p.objectives)) for b in range(len(p.batch_sizes)) for s in self._seeds()]
        found = np.full((len(p.objectives), len(p.batch_sizes), len(p.steps), len(p.seeds), len(SCORES)), np.nan)
        self.result.scalars |= {
            **{name: list(getattr(p, name)) for name in ("objectives", "batch_sizes", "steps", "seeds", "fractions")},
            "scores": list(SCORES),
            "reasons": {},
            "classes": list(self.source.classes),
            "test_images": len(self.splits.test),
            "pretraining": {"dataset": p.dataset, "images": len(self.source), "trained": 0},
        }
        for o, b, s in tqdm(runs, desc="pretraining and probes", unit="run"):
            encoders = self._pretrained(p.objectives[o], p.batch_sizes[b], p.seeds[s])
            for t, at in enumerate(p.steps):
                if at in encoders:
                    found[o, b, t, s] = self._probe(encoders[at], self.splits, p.seeds[s])[0]
        self.result.arrays["linear"] = found
        self.result.arrays["references"] = self._references()
        self.result.provenance["data"] = {p.dataset: self.source.checksum()}
        return self.result

    def _seeds(self) -> range:
        return range(len(self.parameters.seeds))

    def _load(self, name: str, size: int | None) -> Splits:
        p = self.parameters
        limits = {"train": p.probe_limit, "val": None, "test": p.test_limit}
        return Splits(**{k: at_most(data.load(name, k, size=size), limit) for k, limit in limits.items()})

    def _pretrained(
        self,
        objective: str,
        batch_size: int,
        seed: int,
        images: ImageSet | None = None,
        initial: Encoder | None = None,
        **changes: object,
    ) -> dict[int, Encoder]:
        """Encoders at all steps of a run, which is trained once."""
        images = images or self.source
        per_epoch = max(1, len(images) // min(batch_size, len(images)))
        epochs = math.ceil(max(self.parameters.steps) / per_epoch)
        config = self.parameters.config(objective, batch_size, seed, epochs, **changes)
        found: Checkpoints = cached_checkpoints(config, images, self.parameters.steps, initial)
        self.result.scalars["pretraining"]["trained"] += not found.reused
        if found.reason:
            self.result.scalars["reasons"][f"{objective}, batch {batch_size}, seed {seed}, {changes}"] = found.reason
        return found.encoders

    def _features(self, encoder: Encoder | None, images: ImageSet) -> Tensor:
        """Features of an encoder, or the pixels themselves."""
        if encoder is None:
            return images.images.flatten(1).float() / 255
        on = device.best_device()
        return extract(encoder, images, device=on, precision=device.best_precision(on))

    def _probe(
        self, encoder: Encoder | None, splits: Splits, seed: int
    ) -> tuple[list[float], Standardizer, LinearProbe]:
        """Scores on the test split of a linear probe, chosen on the validation split; NaN where it did not converge."""
        raw = {f.name: self._features(encoder, getattr(splits, f.name)) for f in dataclasses.fields(splits)}
        standardizer = Standardizer("unit_variance").fit(raw["train"])
        x = {k: standardizer.transform(part) for k, part in raw.items()}
        grid = LinearProbeGrid(epochs=self.parameters.probe_epochs, seed=seed)
        probe = grid.fit(x["train"], splits.train.labels, x["val"], splits.val.labels)
        converged = probe.converged
        found = scores(probe(x["test"]), splits.test.labels) if converged else [math.nan] * len(SCORES)
        return found, standardizer, probe

    def _references(self) -> np.ndarray:
        """Scores [reference, seed, score] of raw pixels, random weights and the given encoder."""
        p = self.parameters
        names = ["pixels", "random", *(["encoder"] if self.given else [])]
        found = np.full((len(names), len(p.seeds), len(SCORES)), np.nan)
        for s, seed in enumerate(p.seeds):
            encoders = [None, self._untrained(seed), self.given]
            for r in range(len(names)):
                found[r, s] = self._probe(encoders[r], self.splits, seed)[0]
        self.result.scalars["references"] = names
        return found

    def _untrained(self, seed: int) -> Encoder:
        p = self.parameters
        return untrained(seed, p.depth, width=p.width, stem=p.stem, in_channels=self.source.images.shape[1])

    # --- label fractions and attacks ----------------------------------------------------------------------------------

    @step
    def fractions(self) -> Result:
        """Fine-tune the encoders of the largest batch on shares of the labels; the same network from random weights."""
        p = self.parameters
        methods = ["supervised", *p.objectives, *(["encoder"] if self.given else [])]
        found = np.full((len(methods), len(p.fractions), len(p.seeds), len(SCORES)), np.nan)
        cells = [(m, f, s) for m in range(len(methods)) for f in range(len(p.fractions)) for s in self._seeds()]
        labelled = data.load(p.dataset, "train", size=p.size, limit=p.limit)
        for m, f, s in tqdm(cells, desc="fine-tuning", unit="model"):
            encoder = self._to_tune(methods[m], p.seeds[s])
            if encoder is None:
                continue
            epochs = p.baseline_epochs if methods[m] == "supervised" else p.tune_epochs[f]
            tuned = self._tune(encoder, label_fraction(labelled, p.fractions[f], p.seeds[s]), epochs, p.seeds[s])
            if tuned is not None:
                self.tuned[m, f, s] = tuned
                found[m, f, s] = scores(self._features(tuned, self.splits.test), self.splits.test.labels)
        self.result.arrays["fractions"] = found
        self.result.scalars["tuned"] = methods
        return self.result

    def _to_tune(self, method: str, seed: int) -> Encoder | None:
        if method == "encoder":
            return self.given
        if method == "supervised":
            return self._untrained(seed)
        return self._pretrained(method, self.parameters.batch_sizes[-1], seed).get(self._tuned_step())

    def _tuned_step(self) -> int:
        """The report fine-tunes after 1,000 steps: those, or the last where there are fewer."""
        return 1000 if 1000 in self.parameters.steps else self.parameters.steps[-1]

    def _tune(self, encoder: Encoder, images: ImageSet, epochs: int, seed: int) -> Classifier | None:
        p = self.parameters
        how = {"batch_size": p.tune_batch, "learning_rate": p.tune_rate, "flip": p.flip}
        tuned = fine_tune(encoder, images, epochs=epochs, seed=seed, **how)
        return tuned.model if tuned.converged else None

    @step
    def attack(self) -> Result:
        """FGSM and PGD on all fine-tuned models, in the report's units and in pixels; examples for the explorer."""
        p, test = self.parameters, self.splits.test
        some = at_most(test, p.attack_limit)
        x, y = as_float(some.images), some.labels
        (mean, std), shares = self._normalisation(), torch.linspace(0, 1, p.budgets)
        budgets = torch.stack([shares * p.largest_budget, shares * p.largest_budget * float(std.mean())])
        shape = (len(ATTACKS), len(UNITS), len(self.result.scalars["tuned"]), len(p.fractions), p.budgets, len(p.seeds))
        found = np.full(shape, np.nan)
        for (m, f, s), model in tqdm(self.tuned.items(), desc="attacks", unit="model"):
            for u, unit in enumerate(UNITS):
                seen, images, bounds = (model, x, (0.0, 1.0)) if unit == "pixel" else _normalised(model, x, mean, std)
                found[:, u, m, f, :, s] = self._attacked(seen, images, y, budgets[u], bounds, p.seeds[s])
        self.result.arrays |= {"robust": found, "budgets": budgets.numpy()}
        self.result.scalars |= {"attacks": list(ATTACKS), "units": list(UNITS), "attacked_images": len(some)}
        self.result.scalars["normalisation"] = {"mean": mean.tolist(), "std": std.tolist()}
        self.result.arrays |= self._examples(some.subset(range(SHOWN)), budgets[1])
        return self.result

    def _normalisation(self) -> tuple[Tensor, Tensor]:
        """Mean of each channel [C], and its deviation within an image [C], the mean over the source's images."""
        pixels = as_float(self.source.images).flatten(2)
        return pixels.mean((0, 2)), pixels.std(2).mean(0)

    def _attacked(
        self, model: torch.nn.Module, x: Tensor, y: Tensor, budgets: Tensor, bounds: tuple[float, float], seed: int
    ) -> np.ndarray:
        """Accuracies [attack, budget]."""
        on = device.best_device()
        x, y = x.to(on, memory_format=torch.channels_last), y.to(on)
        how = {"steps": self.parameters.attack_steps, "relative_step": STEP / self.parameters.attack_steps}
        generator = torch.Generator(on).manual_seed(seed)
        with device.autocast(on, device.best_precision(on)):
            single = attacks.fgsm_accuracy(model, x, y, budgets, bounds=bounds)
            many = attacks.pgd_accuracy(model, x, y, budgets, bounds=bounds, **how, generator=generator)
        return torch.stack([single, many]).numpy()

    def _examples(self, images: ImageSet, budgets: Tensor) -> dict[str, np.ndarray]:
        """PGD in pixels on linear probes of SimCLR's encoders (first seed): what it finds, and what they then say."""
        p = self.parameters
        x, on = as_float(images.images), device.best_device()
        pictures = np.zeros((len(p.batch_sizes), len(x), len(budgets), *x.shape[1:]), np.uint8)
        believed = np.full((*pictures.shape[:3], len(images.classes)), np.nan, np.float32)
        for b, batch_size in enumerate(p.batch_sizes):
            encoder = self._pretrained(p.objectives[0], batch_size, p.seeds[0]).get(p.steps[-1])
            if encoder is None:
                continue
            model = with_probe(encoder, *self._probe(encoder, self.splits, p.seeds[0])[1:]).to(on)
            for e, eps in enumerate(budgets.tolist()):
                how = {"steps": p.attack_steps, "step_size": STEP * eps / p.attack_steps}
                generator = torch.Generator(on).manual_seed(p.seeds[0])
                seen = attacks.pgd(model, x.to(on), images.labels.to(on), eps, **how, generator=generator)
                pictures[b, :, e] = (255 * seen).round().byte().cpu().numpy()
                believed[b, :, e] = extract(model, seen.cpu()).softmax(1).numpy()
        example = {"image": images.images.numpy(), "label": images.labels.numpy(), "found": pictures}
        return {f"example_{name}": array for name, array in (example | {"believed": believed}).items()}

    # --- transfer, architectures, the published code ------------------------------------------------------------------

    @step
    def transfer(self) -> Result:
        """Linear probes on the other data set: over steps both ways, and over batch sizes and image sizes one way."""
        p = self.parameters
        targets = [self._load(p.target, size) for size in p.sizes]
        has_more = "unlabeled" in data.find(p.target).splits
        elsewhere = data.load(p.target, "unlabeled" if has_more else "train", size=p.sizes[0])
        labelled = {0: self.source, 1: data.load(p.target, "train", size=p.sizes[0])}
        methods = [p.objectives[0], "supervised"]
        over_steps = np.full((2, len(methods), len(p.steps), len(p.seeds), len(SCORES)), np.nan)
        over_batches = np.full((len(p.sizes), len(p.batch_sizes), len(p.seeds), len(SCORES)), np.nan)
        for s, seed in enumerate(tqdm(p.seeds, desc="transfer", unit="seed")):
            for way, (images, judged) in enumerate(((self.source, targets[0]), (elsewhere, self.splits))):
                for m, method in enumerate(methods):
                    learned = images if method != "supervised" else labelled[way]
                    encoders = self._pretrained(method, p.variant_batch, seed, learned)
                    for t, at in enumerate(p.steps):
                        if at in encoders:
                            over_steps[way, m, t, s] = self._probe(encoders[at], judged, seed)[0]
            for b, batch_size in enumerate(p.batch_sizes):
                encoder = self._pretrained(p.objectives[0], batch_size, seed).get(p.steps[-1])
                for i, target in enumerate(targets if encoder else []):
                    over_batches[i, b, s] = self._probe(encoder, target, seed)[0]
        self.result.arrays |= {"transfer_steps": over_steps, "transfer_batches": over_batches}
        self.result.scalars |= {"transferred": methods, "target": p.target, "sizes": list(p.sizes)}
        self.result.scalars["target_images"] = {"pretraining": len(elsewhere), "test": len(targets[0].test)}
        return self.result

    @step
    def architectures(self) -> Result:
        """Both objectives on a network of another depth, and what a step costs with each."""
        p = self.parameters
        depths = [p.depth, p.deep]
        found = np.full((len(p.objectives), 2, len(p.seeds), len(SCORES)), np.nan)
        price = np.full((len(p.objectives), 2, len(dataclasses.fields(cost.StepCost))), np.nan)
        for o, objective in enumerate(tqdm(p.objectives, desc="architectures", unit="objective")):
            for d, depth in enumerate(depths):
                for s, seed in enumerate(p.seeds):
                    encoder = self._pretrained(objective, p.variant_batch, seed, depth=depth).get(p.steps[-1])
                    if encoder is not None:
                        found[o, d, s] = self._probe(encoder, self.splits, seed)[0]
                config = p.config(objective, p.variant_batch, p.seeds[0], 1, depth=depth)
                price[o, d] = dataclasses.astuple(cost.of_step(config, self.source))
        self.result.arrays |= {"architectures": found, "step_cost": price}
        self.result.scalars["depths"] = depths
        return self.result

    @step
    def published_code(self) -> Result:
        """Each departure of the published code from the text, switched on alone."""
        p = self.parameters
        variants = ("plain", *p.variants)
        found = np.full((len(variants), len(p.objectives), len(p.seeds), len(SCORES)), np.nan)
        changes = {"per batch": {"per_batch": True}, "unpadded": {"stem": "unpadded"}, "cut": {"schedule": "cuts"}}
        cells = [(v, o, s) for v in range(len(variants)) for o in range(len(p.objectives)) for s in self._seeds()]
        # Supervised first, then the objectives, all from the given weights.
        tuned = np.full((len(p.objectives) + 1, len(p.fractions), len(p.seeds), len(SCORES)), np.nan)
        for v, o, s in tqdm(cells, desc="the published code's departures", unit="run"):
            variant, objective, seed = variants[v], p.objectives[o], p.seeds[s]
            change = dict(changes.get(variant, {}))
            if change.pop("per_batch", False):
                options = p.config(objective, p.variant_batch, seed, 1).options
                change["options"] = options | {"per_batch": True}
            if variant == "initialised":
                change["initial"] = self._initial(seed)
            encoder = self._pretrained(objective, p.variant_batch, seed, **change).get(p.steps[-1])
            if encoder is None:
                continue
            found[v, o, s] = self._probe(encoder, self.splits, seed)[0]
            if variant == "initialised":
                self._tune_initialised(tuned[o + 1, :, s], encoder, seed)
        for s, seed in enumerate(p.seeds if "initialised" in p.variants else ()):
            self._tune_initialised(tuned[0, :, s], self._initial(seed), seed)
        self.result.arrays |= {"variants": found, "initialised": tuned}
        self.result.scalars |= {"variants": list(variants), "initial": p.initial}
        return self.result

    def _initial(self, seed: int) -> Encoder:
        """The weights that a variant begins from: somebody's, or those of supervised training on another set."""
        p = self.parameters
        kind, _, name = p.initial.partition(":")
        if kind != "supervised":
            return load_encoder(p.initial)
        elsewhere = data.load(name, "train", size=p.size or self.source.images.shape[-1], limit=p.limit)
        return self._pretrained("supervised", p.variant_batch, seed, elsewhere)[p.steps[-1]]

    def _tune_initialised(self, into: np.ndarray, encoder: Encoder, seed: int) -> None:
        """Fine-tune, on every fraction, a network that began from given weights, with the epochs of the others."""
        p = self.parameters
        labelled = data.load(p.dataset, "train", size=p.size, limit=p.limit)
        for f, fraction in enumerate(p.fractions):
            tuned = self._tune(encoder, label_fraction(labelled, fraction, seed), p.tune_epochs[f], seed)
            if tuned is not None:
                into[f] = scores(self._features(tuned, self.splits.test), self.splits.test.labels)


class _Denormalised(torch.nn.Module):
    """A model of pixels, as a function of normalised images."""

    def __init__(self, model: torch.nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x * self.std + self.mean)


def _normalised(
    model: torch.nn.Module, x: Tensor, mean: Tensor, std: Tensor
) -> tuple[torch.nn.Module, Tensor, tuple[float, float]]:
    """Model, images and bounds in the report's units; one range for all channels bounds them, as in its code."""
    on = next(model.parameters()).device
    scaled = (x - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    low, high = float((-mean / std).min()), float(((1 - mean) / std).max())
    return _Denormalised(model, mean, std).to(on), scaled, (low, high)


def run(parameters: Parameters) -> Result:
    """The whole study."""
    return Study(parameters).run()
