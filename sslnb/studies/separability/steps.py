"""Separability of self-supervised representations (Sehwag, Chiang and Mittal 2020): the study's steps."""

import math

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from sslnb import data
from sslnb.core import device
from sslnb.core.checks import expect
from sslnb.core.result import Result
from sslnb.data import catalogue
from sslnb.data.images import at_most, stratified
from sslnb.data.splits import find
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.load import load_encoder
from sslnb.encoders.resnet import untrained
from sslnb.features.extract import extract
from sslnb.features.linear import LEARNING_RATES, WEIGHT_DECAYS, LinearProbe, LinearProbeGrid
from sslnb.features.mlp import MLPProbe
from sslnb.features.nearest import knn_predict
from sslnb.features.scores import top1
from sslnb.features.standardize import SCALES, Standardizer
from sslnb.metrics import attacks
from sslnb.metrics.margins import effective_accuracy, margins, robust_accuracy
from sslnb.objectives.registry import OBJECTIVES
from sslnb.studies.separability import claims as decisions
from sslnb.studies.separability.parameters import Parameters
from sslnb.studies.study import BaseStudy, step
from sslnb.training.cache import cached_pretrain

NORMS = {"l1": 1, "l2": 2, "linf": math.inf}
ATTACKED = ("l2", "linf")  # the norms of the paper's budgets
BUDGETS = {"l2": 5.0, "linf": 0.1}  # the paper's largest budgets, section 3.2
REACH = {"unit_norm": {"l2": 1.0, "linf": 0.1}, "unit_variance": BUDGETS}  # where curves are drawn and attacks are run:
# a unit-norm feature is 1 long, and no boundary through the origin is further away than that
CURVE_POINTS = 501  # budgets at which exact curves are recorded, 0 included


class Study(BaseStudy):
    """Encoders → features → probes → margins → robustness → effective accuracy → claims, one step each.

    Arrays are indexed [method, seed, data set, …] in the order of ``scalars["methods"]``, ``"seeds"``,
    ``"datasets"``; where a probe did not converge, margins and all that rests on them are NaN (its accuracy is kept).
    """

    name = "separability"
    decisions = decisions
    parameters: Parameters

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.encoders: dict[tuple[str, int], Encoder] = {}
        self.sets: dict[str, dict[str, data.ImageSet]] = {}
        self.probes: dict[tuple[int, int, int, int], LinearProbe] = {}
        self.features: dict[tuple[int, int, int, int], dict[str, Tensor]] = {}

    @step
    def pretrain(self) -> Result:
        """Train, or take from the cache, one encoder per objective and seed."""
        p = self.parameters
        for name in p.datasets:
            find(name)  # refused now rather than after hours of training
        own = load_encoder(p.encoder).eval() if p.encoder else None
        source = data.load(p.dataset, "train", size=p.size, limit=p.limit)
        shape = {"width": p.width, "stem": p.stem, "in_channels": source.images.shape[1]}
        methods = [*p.objectives, *(["encoder"] if p.encoder else [])]
        losses = np.full((len(methods), len(p.seeds), max(p.epochs, p.supervised_epochs)), np.nan, np.float32)
        reused = []
        for m, method in enumerate(methods):
            for s, seed in enumerate(p.seeds):
                if method in OBJECTIVES:
                    run = cached_pretrain(p.config(method, seed), source)
                    expect(run.converged, f"pretraining of {method}, seed {seed}", "a finite loss", "a diverged run")
                    losses[m, s, : len(run.history["loss"])] = run.history["loss"]
                    reused.append(run.reused)
                    self.encoders[method, seed] = run.encoder
                elif method == "encoder":
                    self.encoders[method, seed] = own
                else:
                    self.encoders[method, seed] = untrained(seed, p.depth, **shape)
        self.result.arrays["loss"] = losses
        self.result.scalars |= {
            "methods": methods,
            "self_supervised": [m for m in methods if m in OBJECTIVES and not OBJECTIVES[m].uses_labels],
            "seeds": list(p.seeds),
            "norms": list(NORMS),
            "attacked": list(ATTACKED),
            "scales": list(SCALES),
            "pretraining": {"dataset": p.dataset, "images": len(source), "trained": reused.count(False)},
        }
        self.result.provenance["data"] = {p.dataset: source.checksum()}
        return self.result

    @step
    def probe(self) -> Result:
        """Extract features, standardize them both ways, fit the grid of linear probes on each data set."""
        p, scalars = self.parameters, self.result.scalars
        for name in p.datasets:
            limits = {"train": p.probe_limit, "val": None, "test": p.test_limit}
            self.sets[name] = {s: at_most(data.load(name, s, size=p.size), limits[s]) for s in limits}
            self.result.provenance["data"][f"{name} (test)"] = self.sets[name]["test"].checksum()
        scalars["datasets"] = list(p.datasets)
        scalars["classes"] = [len(self.sets[d]["test"].classes) for d in p.datasets]
        scalars["test_images"] = [len(self.sets[d]["test"]) for d in p.datasets]
        scalars["per_class"] = [mean_per_class(d) for d in p.datasets]
        shape = (len(scalars["methods"]), len(p.seeds), len(p.datasets))
        arrays = {name: np.full((*shape, len(SCALES)), np.nan) for name in ("accuracy", "rate", "decay")}
        arrays |= {"converged": np.zeros((*shape, len(SCALES)), bool), "knn": np.full(shape, np.nan)}
        arrays["grid"] = np.full((*shape, len(SCALES), len(LEARNING_RATES), len(WEIGHT_DECAYS)), np.nan, np.float32)
        for m, s, d, splits in self._each_encoder_and_set():
            raw = {k: self._features(self.encoders[m, s], part) for k, part in splits.items()}
            labels = {k: part.labels for k, part in splits.items()}
            at = (scalars["methods"].index(m), p.seeds.index(s), p.datasets.index(d))
            neighbours = knn_predict(raw["train"], labels["train"], raw["test"])
            arrays["knn"][at] = top1(neighbours, labels["test"])
            for c, scale in enumerate(SCALES):
                standardize = Standardizer(scale).fit(raw["train"]).transform
                x = {k: standardize(part) for k, part in raw.items()}
                grid = LinearProbeGrid(epochs=p.probe_epochs, seed=s)
                probe = grid.fit(x["train"], labels["train"], x["val"], labels["val"])
                # Only the first set's training features are needed again, by the multi-layer probe.
                self.features[*at, c] = x if (at[2], c) == (0, 0) else {"test": x["test"]}
                self.probes[*at, c] = probe
                arrays["accuracy"][*at, c] = probe.accuracy(x["test"], labels["test"], self._per_class(at[2]))
                arrays["converged"][*at, c] = probe.converged
                arrays["rate"][*at, c], arrays["decay"][*at, c] = probe.learning_rate, probe.weight_decay
                arrays["grid"][*at, c] = probe.grid.numpy()
        self.result.arrays |= arrays
        return self.result

    def _each_encoder_and_set(self):
        pairs = [(m, s, d) for m in self.result.scalars["methods"] for s in self.parameters.seeds for d in self.sets]
        for m, s, d in tqdm(pairs, desc="features and probes", unit="encoder × set"):
            yield m, s, d, self.sets[d]

    def _features(self, encoder: Encoder, images: data.ImageSet) -> Tensor:
        on = device.best_device()
        return extract(encoder, images, device=on, precision=device.best_precision(on))

    def _per_class(self, d: int) -> bool:
        return self.result.scalars["per_class"][d]

    def _test(self, at: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
        return self.features[at]["test"], self.sets[self.parameters.datasets[at[2]]]["test"].labels

    def _attacked(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The test features that PGD attacks: a stratified choice, the same for every encoder."""
        limit = self.parameters.attack_limit
        chosen = stratified(y, limit, 0) if len(y.unique()) <= limit < len(y) else torch.arange(len(y))[:limit]
        return x[chosen], y[chosen]

    def _pgd(self, model: torch.nn.Module, x: Tensor, y: Tensor, budgets: Tensor, norm: str, seed: int) -> Tensor:
        """Accuracy [B] of a feature-space classifier under PGD.

        Steps are longer than the budget: a linear classifier's loss is convex, so its greatest value in a ball is at
        the rim, and short steps stop at a local one. The benchmark of robust accuracy measures what is left.
        """
        settings = {"norm": norm, "steps": self.parameters.attack_steps, "relative_step": 4.0, "bounds": None}
        return attacks.pgd_accuracy(model, x, y, budgets, **settings, generator=torch.Generator().manual_seed(seed))

    @step
    def margins(self) -> Result:
        """Margins of the correctly classified test samples in all three norms."""
        shape, norms = self.result.arrays["accuracy"].shape, list(NORMS.values())
        mean = np.full((*shape, len(norms)), np.nan)
        margins_of = [
            np.full((*shape[:2], len(norms), n), np.nan, np.float16) for n in self.result.scalars["test_images"]
        ]
        largest = np.full((*shape, len(norms)), np.nan)
        for at, probe in self.probes.items():
            x, y = self._test(at)
            for i, p in enumerate(norms if probe.converged else []):
                margin = margins(probe.weight, probe.bias, x, p=p, labels=y).numpy()
                mean[*at, i], largest[*at, i] = np.nanmean(margin), np.nanmax(margin)
                if at[3] == 0:  # the first scale is the paper's text: its single margins are drawn and bootstrapped
                    margins_of[at[2]][*at[:2], i] = margin
        self.result.arrays |= {"mean_margin": mean, "largest_margin": largest}
        for d, name in enumerate(self.parameters.datasets):
            self.result.arrays[f"margins/{name}"] = margins_of[d]
            self.result.arrays[f"labels/{name}"] = self.sets[name]["test"].labels.numpy().astype(np.int16)
        return self.result

    @step
    def robustness(self) -> Result:
        """Exact accuracy against budget, and PGD on the same probes as a check."""
        shape = self.result.arrays["accuracy"].shape
        budgets = torch.stack([torch.linspace(0, BUDGETS[n], CURVE_POINTS) for n in ATTACKED])
        curves = np.full((*shape, len(ATTACKED), CURVE_POINTS), np.nan, np.float32)
        dots = torch.stack([torch.linspace(0, REACH[SCALES[0]][n], 9) for n in ATTACKED])
        pgd = np.full((*shape[:2], len(ATTACKED), dots.shape[1]), np.nan)
        exact = pgd.copy()
        for at, probe in self.probes.items():
            x, y = self._test(at)
            for i, norm in enumerate(ATTACKED if probe.converged else []):
                exactly = {"p": NORMS[norm], "per_class": self._per_class(at[2])}
                curves[*at, i] = robust_accuracy(probe.weight, probe.bias, x, y, budgets[i], **exactly)
                if at[2:] == (0, 0):
                    attacked = self._attacked(x, y)
                    pgd[*at[:2], i] = self._pgd(_module(probe), *attacked, dots[i], norm, at[1])
                    same = {"p": NORMS[norm]}
                    exact[*at[:2], i] = robust_accuracy(probe.weight, probe.bias, *attacked, dots[i], **same)
        self.result.arrays |= {"budgets": budgets.numpy(), "curves": curves}
        self.result.arrays |= {"dots": dots.numpy(), "pgd": pgd, "exact_at_dots": exact}
        return self.result

    @step
    def multilayer(self) -> Result:
        """The same with a multi-layer probe, whose margin is not tractable: accuracy under PGD, first data set."""
        p, shape = self.parameters, self.result.arrays["accuracy"].shape
        dots = torch.from_numpy(self.result.arrays["dots"])
        accuracy = np.full(shape[:2], np.nan)
        curves = np.full((*shape[:2], *dots.shape), np.nan)
        cells = [at for at in self.probes if at[2:] == (0, 0)]
        for at in tqdm(cells, desc="multi-layer probes", unit="probe"):
            x, labels = self.features[at], {k: part.labels for k, part in self.sets[p.datasets[0]].items()}
            probe = MLPProbe(epochs=max(1, p.probe_epochs // 2), seed=p.seeds[at[1]])
            probe.fit(x["train"], labels["train"], x["val"], labels["val"])
            if not probe.converged:
                continue
            accuracy[at[:2]] = probe.accuracy(x["test"], labels["test"], self._per_class(0))
            tested = self._attacked(x["test"], labels["test"])
            for i, norm in enumerate(ATTACKED):
                curves[*at[:2], i] = self._pgd(probe, *tested, dots[i], norm, at[1])
        self.result.arrays |= {"mlp_accuracy": accuracy, "mlp_pgd": curves}
        return self.result

    @step
    def effective(self) -> Result:
        """Norm-AUC and effective accuracy of every exact curve at the paper's budgets."""
        curves, budgets = self.result.arrays["curves"], self.result.arrays["budgets"]
        effective = np.full(curves.shape[:-1], np.nan)
        norm_auc = effective.copy()
        for at in np.ndindex(effective.shape):
            if np.isfinite(curves[at]).all():
                value = effective_accuracy(curves[at], budgets[at[-1]])
                effective[at], norm_auc[at] = value.effective, value.norm_auc
        self.result.arrays |= {"effective": effective, "norm_auc": norm_auc}
        return self.result


def mean_per_class(dataset: str) -> bool:
    """Whether the papers report a set's accuracy as the mean over its classes; False for sets of the user's own."""
    name = dataset.partition(":")[0]
    return name in catalogue.names() and catalogue.describe(name).mean_per_class


def _module(probe: LinearProbe) -> torch.nn.Module:
    layer = torch.nn.Linear(probe.weight.shape[1], len(probe.weight))
    layer.load_state_dict({"weight": probe.weight, "bias": probe.bias})
    return layer.requires_grad_(False)


def run(parameters: Parameters) -> Result:
    """The whole study."""
    return Study(parameters).run()
