"""SimCLR against RotNet (Chen, Hsu and Jang 2023): the study's steps."""

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from sslnb import data
from sslnb.core import device
from sslnb.core.flat import Result
from sslnb.data.images import ImageSet, at_most
from sslnb.data.splits import find
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.load import load_encoder
from sslnb.features.extract import as_float, extract
from sslnb.features.linear import LinearProbe, LinearProbeGrid
from sslnb.features.scores import scores
from sslnb.features.standardize import Standardizer
from sslnb.metrics import attacks
from sslnb.studies.base import BaseStudy, step
from sslnb.studies.simclr_rotnet import claims as decisions
from sslnb.studies.simclr_rotnet.encoders import Encoders, expect_usable
from sslnb.studies.simclr_rotnet.parameters import Parameters
from sslnb.training import cost
from sslnb.training.finetune import Classifier, fine_tune, label_fraction, with_probe

SCORES = ("top1", "top2", "top3", "auc")  # last axis of most arrays
UNITS = ("normalised", "pixel")  # of the attacks' budgets
ATTACKS = ("fgsm", "pgd")
STEP = 1.85  # a PGD step in units of eps / steps: what the report's "alpha = 1.85" multiplies in its code
SHOWN = 4  # images in the explorer, at most


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three splits of a labelled set, the training one cut to what probes see."""

    train: ImageSet
    val: ImageSet
    test: ImageSet


class Study(BaseStudy):
    """Linear evaluation → label fractions → attacks → transfer → architectures → the published code's departures.

    Arrays of scores are indexed in the order of the names in ``scalars`` (objectives, batch sizes, steps, …), the seed
    second to last and the score last (``SCORES``); ``robust`` ends in budget and seed. What did not converge is NaN;
    ``scalars["reasons"]`` says why.
    """

    name = "simclr_rotnet"
    decisions = decisions
    parameters: Parameters

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.tuned: dict[tuple[int, int, int], Classifier] = {}  # (method, fraction, seed)
        self.encoders: Encoders | None = None
        self.supplied: Encoder | None = None
        self.splits: Splits | None = None
        self.targets: list[Splits] = []  # the other set, at each size
        self.labelled: ImageSet | None = None  # the source's whole training split, shares of which are fine-tuned on

    @step
    def linear(self) -> Result:
        """Pretrain with every batch size, and probe the encoders at every number of steps, on the source's test set."""
        p = self.parameters
        self.supplied = load_encoder(p.encoder).eval() if p.encoder else None
        self.labelled = data.load(p.dataset, "train", size=p.size)
        source = at_most(self.labelled, p.limit)
        for fraction in p.fractions:
            label_fraction(self.labelled, fraction)
        expect_usable(p, source, self.supplied, float(normalisation(source)[1].max()))
        self.targets = [self._load(p.target, size, p.target_classes) for size in p.sizes]
        self.encoders, self.splits = Encoders(p, source), self._load(p.dataset, p.size)
        runs = [(o, b, s) for o in range(len(p.objectives)) for b in range(len(p.batch_sizes)) for s in self._seeds()]
        values = np.full((len(p.objectives), len(p.batch_sizes), len(p.steps), len(p.seeds), len(SCORES)), np.nan)
        self.result.scalars |= {
            **{name: list(getattr(p, name)) for name in ("objectives", "batch_sizes", "steps", "seeds", "fractions")},
            "scores": list(SCORES),
            "classes": list(source.classes),
            "test_images": len(self.splits.test),
            "pretraining": {"dataset": p.dataset, "images": len(source)},
        }
        for o, b, s in tqdm(runs, desc="pretraining and probes", unit="run"):
            encoders = self.encoders.at_steps(p.objectives[o], p.batch_sizes[b], p.seeds[s])
            values[o, b, :, s] = self._probe_steps(encoders, self.splits, p.seeds[s])
        self.result.arrays["linear"] = values
        self.result.arrays["references"] = self._references()
        self.result.provenance["data"] = {p.dataset: source.checksum()}
        return self._noted()

    def _noted(self) -> Result:
        """The result, up to date on what was trained and what went wrong."""
        self.result.scalars["reasons"] = dict(self.encoders.reasons)
        self.result.scalars["pretraining"]["trained"] = self.encoders.trained
        return self.result

    def _seeds(self) -> range:
        return range(len(self.parameters.seeds))

    def _load(self, name: str, size: int | None, classes: tuple[int, ...] | None = None) -> Splits:
        p = self.parameters
        limits = {"train": p.probe_limit, "val": None, "test": p.test_limit}
        return Splits(
            **{k: at_most(data.load(name, k, size=size, classes=classes), limit) for k, limit in limits.items()}
        )

    def _probe_steps(self, encoders: dict[int, Encoder], splits: Splits, seed: int) -> np.ndarray:
        """Scores [step, score] of a run's encoders."""
        values = np.full((len(self.parameters.steps), len(SCORES)), np.nan)
        for t, at in enumerate(self.parameters.steps):
            if at in encoders:
                values[t] = self._probe(encoders[at], splits, seed)[0]
        return values

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
        values = scores(probe(x["test"]), splits.test.labels) if converged else [math.nan] * len(SCORES)
        return values, standardizer, probe

    def _references(self) -> np.ndarray:
        """Scores [reference, seed, score] of raw pixels, random weights and the given encoder."""
        p = self.parameters
        names = ["pixels", "random", *(["encoder"] if self.supplied else [])]
        values = np.full((len(names), len(p.seeds), len(SCORES)), np.nan)
        for s, seed in enumerate(p.seeds):
            encoders = [None, self.encoders.untrained(seed), self.supplied]
            for r in range(len(names)):
                values[r, s] = self._probe(encoders[r], self.splits, seed)[0]
        self.result.scalars["references"] = names
        return values

    # --- label fractions and attacks ----------------------------------------------------------------------------------

    @step
    def fractions(self) -> Result:
        """Fine-tune the encoders of the largest batch on shares of the labels; the same network from random weights."""
        p = self.parameters
        methods = ["supervised", *p.objectives, *(["encoder"] if self.supplied else [])]
        values = np.full((len(methods), len(p.fractions), len(p.seeds), len(SCORES)), np.nan)
        cells = [(m, f, s) for m in range(len(methods)) for f in range(len(p.fractions)) for s in self._seeds()]
        for m, f, s in tqdm(cells, desc="fine-tuning", unit="model"):
            epochs = p.baseline_epochs if methods[m] == "supervised" else p.tune_epochs
            tuned, values[m, f, s] = self._tune(self._to_tune(methods[m], p.seeds[s]), f, epochs[f], p.seeds[s])
            if tuned is not None:
                self.tuned[m, f, s] = tuned
        self.result.arrays["fractions"] = values
        self.result.scalars |= {"tuned": methods, "tuned_step": self._tuned_step(), "labelled": len(self.labelled)}
        return self._noted()

    def _to_tune(self, method: str, seed: int) -> Encoder | None:
        if method == "encoder":
            return self.supplied
        if method == "supervised":
            return self.encoders.untrained(seed)
        return self.encoders.at_steps(method, self.parameters.batch_sizes[-1], seed).get(self._tuned_step())

    def _tuned_step(self) -> int:
        """The report fine-tunes after 1,000 steps: those, or the last where there are fewer."""
        return 1000 if 1000 in self.parameters.steps else self.parameters.steps[-1]

    def _tune(self, encoder: Encoder | None, f: int, epochs: int, seed: int) -> tuple[Classifier | None, list[float]]:
        """An encoder fine-tuned on a fraction of the labels, and its test scores; NaN where that went wrong."""
        p, missing = self.parameters, [math.nan] * len(SCORES)
        if encoder is None:
            return None, missing
        settings = {"batch_size": p.tune_batch, "learning_rate": p.tune_rate, "crop_scale": p.tune_crop, "flip": p.flip}
        tuned = fine_tune(
            encoder, label_fraction(self.labelled, p.fractions[f], seed), epochs=epochs, seed=seed, **settings
        )
        if not tuned.converged:
            return None, missing
        return tuned.model, scores(self._features(tuned.model, self.splits.test), self.splits.test.labels)

    @step
    def attack(self) -> Result:
        """FGSM and PGD on all fine-tuned models, in the report's units and in pixels; examples for the explorer."""
        p, test = self.parameters, self.splits.test
        subset = at_most(test, p.attack_limit)
        x, y = as_float(subset.images), subset.labels
        (mean, std), shares = normalisation(self.encoders.source), torch.linspace(0, 1, p.budgets)
        budgets = torch.stack([shares * p.largest_budget, shares * p.largest_budget * float(std.mean())])
        shape = (len(ATTACKS), len(UNITS), len(self.result.scalars["tuned"]), len(p.fractions), p.budgets, len(p.seeds))
        accuracies = np.full(shape, np.nan)
        for (m, f, s), model in tqdm(self.tuned.items(), desc="attacks", unit="model"):
            for u, unit in enumerate(UNITS):
                attacked, images, bounds = (
                    (model, x, (0.0, 1.0)) if unit == "pixel" else _normalised(model, x, mean, std)
                )
                accuracies[:, u, m, f, :, s] = self._attacked(attacked, images, y, budgets[u], bounds, p.seeds[s])
        self.result.arrays |= {"robust": accuracies, "budgets": budgets.numpy()}
        self.result.scalars |= {"attacks": list(ATTACKS), "units": list(UNITS), "attacked_images": len(subset)}
        self.result.scalars["normalisation"] = {"mean": mean.tolist(), "std": std.tolist()}
        self.result.arrays |= self._examples(subset, budgets[1])
        return self.result

    def _attacked(
        self, model: torch.nn.Module, x: Tensor, y: Tensor, budgets: Tensor, bounds: tuple[float, float], seed: int
    ) -> np.ndarray:
        """Accuracies [attack, budget]."""
        on = device.best_device()
        x, y = x.to(on, memory_format=torch.channels_last), y.to(on)
        settings = {"steps": self.parameters.attack_steps, "relative_step": STEP / self.parameters.attack_steps}
        generator = torch.Generator(on).manual_seed(seed)
        with device.autocast(on, device.best_precision(on)):
            single = attacks.fgsm_accuracy(model, x, y, budgets, bounds=bounds)
            accuracies = attacks.pgd_accuracy(model, x, y, budgets, bounds=bounds, **settings, generator=generator)
        return torch.stack([single, accuracies]).numpy()

    def _examples(self, images: ImageSet, budgets: Tensor) -> dict[str, np.ndarray]:
        """PGD in pixels on linear probes (first objective and seed): what it finds, and what the probes then say.

        Of the images that the most probes get right: an attack leaves the others as they are.
        """
        p, on = self.parameters, device.best_device()
        models: dict[int, Classifier] = {}
        for b, batch_size in enumerate(p.batch_sizes):
            encoder = self.encoders.at_steps(self._first(), batch_size, p.seeds[0]).get(p.steps[-1])
            if encoder is not None:
                models[b] = with_probe(encoder, *self._probe(encoder, self.splits, p.seeds[0])[1:]).to(on)
        right = torch.zeros(len(images))
        for model in models.values():
            right += extract(model, images).argmax(1) == images.labels
        images = images.subset(right.argsort(descending=True, stable=True)[:SHOWN])
        x = as_float(images.images)
        pictures = np.zeros((len(p.batch_sizes), len(x), len(budgets), *x.shape[1:]), np.uint8)
        believed = np.full((*pictures.shape[:3], len(images.classes)), np.nan, np.float32)
        for b, model in models.items():
            for e, eps in enumerate(budgets.tolist()):
                settings = {"steps": p.attack_steps, "step_size": STEP * eps / p.attack_steps}
                generator = torch.Generator(on).manual_seed(p.seeds[0])
                adversarial = attacks.pgd(model, x.to(on), images.labels.to(on), eps, **settings, generator=generator)
                pictures[b, :, e] = (255 * adversarial).round().byte().cpu().numpy()
                believed[b, :, e] = extract(model, adversarial.cpu()).softmax(1).numpy()
        example = {"image": images.images.numpy(), "label": images.labels.numpy(), "found": pictures}
        return {f"example_{name}": array for name, array in (example | {"believed": believed}).items()}

    def _first(self) -> str:
        """The objective that is transferred and explored: SimCLR, as in the report, where it is trained."""
        return "simclr" if "simclr" in self.parameters.objectives else self.parameters.objectives[0]

    # --- transfer, architectures, the published code ------------------------------------------------------------------

    @step
    def transfer(self) -> Result:
        """Linear probes on the other data set: over steps both ways, and over batch sizes and image sizes one way."""
        p, source = self.parameters, self.encoders.source
        has_more = "unlabeled" in find(p.target).splits and p.target_classes is None
        same = {"size": p.sizes[0], "classes": p.target_classes}
        labelled = at_most(data.load(p.target, "train", **same), p.limit)
        elsewhere = at_most(data.load(p.target, "unlabeled", size=p.sizes[0]), p.limit) if has_more else labelled
        methods = [self._first(), "supervised"]
        over_steps = np.full((2, len(methods), len(p.steps), len(p.seeds), len(SCORES)), np.nan)
        over_batches = np.full((len(p.sizes), len(p.batch_sizes), len(p.seeds), len(SCORES)), np.nan)
        ways = ((source, source, self.targets[0]), (elsewhere, labelled, self.splits))
        for s, seed in enumerate(tqdm(p.seeds, desc="transfer", unit="seed")):
            for way, (*learned, judged) in enumerate(ways):
                for m, method in enumerate(methods):
                    encoders = self.encoders.at_steps(method, p.variant_batch, seed, learned[m])
                    over_steps[way, m, :, s] = self._probe_steps(encoders, judged, seed)
            for b, batch_size in enumerate(p.batch_sizes):
                encoder = self.encoders.at_steps(self._first(), batch_size, seed).get(p.steps[-1])
                for i, target in enumerate(self.targets if encoder else []):
                    over_batches[i, b, s] = self._probe(encoder, target, seed)[0]
        self.result.arrays |= {"transfer_steps": over_steps, "transfer_batches": over_batches}
        self.result.scalars |= {"transferred": methods, "target": p.target, "sizes": list(p.sizes)}
        self.result.scalars["target_images"] = {"pretraining": len(elsewhere), "test": len(self.targets[0].test)}
        return self._noted()

    @step
    def architectures(self) -> Result:
        """Both objectives on a network of another depth, and what a step costs with each."""
        p, source = self.parameters, self.encoders.source
        depths = [p.depth, p.deep]
        values = np.full((len(p.objectives), 2, len(p.seeds), len(SCORES)), np.nan)
        price = np.full((len(p.objectives), 2, len(dataclasses.fields(cost.StepCost))), np.nan)
        for o, objective in enumerate(tqdm(p.objectives, desc="architectures", unit="objective")):
            for d, depth in enumerate(depths):
                for s, seed in enumerate(p.seeds):
                    encoder = self.encoders.at_steps(objective, p.variant_batch, seed, depth=depth).get(p.steps[-1])
                    if encoder is not None:
                        values[o, d, s] = self._probe(encoder, self.splits, seed)[0]
                config = p.config(objective, p.variant_batch, p.seeds[0], len(source), depth=depth)
                price[o, d] = dataclasses.astuple(cost.of_step(config, source))
        self.result.arrays |= {"architectures": values, "step_cost": price}
        self.result.scalars["depths"] = depths
        return self._noted()

    @step
    def published_code(self) -> Result:
        """Each departure of the published code from the text, switched on alone."""
        p = self.parameters
        variants = ("plain", *p.variants)
        values = np.full((len(variants), len(p.objectives), len(p.seeds), len(SCORES)), np.nan)
        cut = np.full((len(p.steps), len(p.seeds), len(SCORES)), np.nan)
        cells = [(v, o, s) for v in range(len(variants)) for o in range(len(p.objectives)) for s in self._seeds()]
        for v, o, s in tqdm(cells, desc="the published code's departures", unit="run"):
            encoders = self._variant(variants[v], p.objectives[o], p.variant_batch, p.seeds[s])
            if p.steps[-1] in encoders:
                values[v, o, s] = self._probe(encoders[p.steps[-1]], self.splits, p.seeds[s])[0]
            if variants[v] == "cut" and p.objectives[o] == self._first():
                cut[:, s] = self._probe_steps(encoders, self.targets[0], p.seeds[s])
        self.result.arrays |= {"variants": values, "transfer_cut": cut, "initialised": self._initialised()}
        self.result.scalars |= {"variants": list(variants), "initial": p.initial}
        return self._noted()

    def _variant(self, variant: str, objective: str, batch_size: int, seed: int) -> dict[int, Encoder]:
        """Encoders at all steps of a run with one departure."""
        stem = variant.removesuffix(" stem")
        changes: dict[str, object] = {"stem": stem} if stem != variant else {}
        if variant == "cut":
            changes = {"schedule": "cuts"}
        elif variant == "per batch":
            own = self.parameters.config(objective, batch_size, seed, len(self.encoders.source)).options
            changes = {"options": own | {"per_batch": True}}
        elif variant == "initialised":
            changes = {"initial": self.encoders.initial(seed)}
            if changes["initial"] is None:
                return {}
        return self.encoders.at_steps(objective, batch_size, seed, **changes)

    def _initialised(self) -> np.ndarray:
        """Scores [supervised and the objectives, fraction, seed, score] of fine-tuning that began from given weights:
        directly, and after the pretraining that :meth:`fractions` has without them."""
        p = self.parameters
        values = np.full((len(p.objectives) + 1, len(p.fractions), len(p.seeds), len(SCORES)), np.nan)
        for s, seed in enumerate(p.seeds if "initialised" in p.variants else ()):
            runs = (self._variant("initialised", objective, p.batch_sizes[-1], seed) for objective in p.objectives)
            encoders = [self.encoders.initial(seed), *(run.get(self._tuned_step()) for run in runs)]
            for m, encoder in enumerate(encoders):
                for f, epochs in enumerate(p.tune_epochs):
                    values[m, f, s] = self._tune(encoder, f, epochs, seed)[1]
        return values


def normalisation(images: ImageSet) -> tuple[Tensor, Tensor]:
    """Mean of each channel [C], and its deviation within an image [C], the mean over the images."""
    pixels = (as_float(part).flatten(2) for part in images.images.split(2048))
    mean, std = torch.cat([torch.stack([x.mean(2), x.std(2)]) for x in pixels], 1).mean(1)
    return mean, std


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
