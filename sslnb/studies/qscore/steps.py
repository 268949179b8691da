"""Representation quality by discriminative features (Kalibhat et al. 2024): the study's steps."""

import itertools

import numpy as np
import torch
from tqdm.auto import tqdm

from sslnb.core.checks import expect
from sslnb.core.flat import Result
from sslnb.data.images import at_most
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.load import load_encoder
from sslnb.features import prediction
from sslnb.metrics import activations, qscore
from sslnb.objectives.registry import OBJECTIVES
from sslnb.studies.base import BaseStudy, step
from sslnb.studies.qscore import claims as decisions
from sslnb.studies.qscore import pictures
from sslnb.studies.qscore.encoders import SUBSETS, VARIANTS, Encoders, Judged, band, trained_on
from sslnb.studies.qscore.parameters import Parameters
from sslnb.training.loop import Pretrained
from sslnb.training.penalty import Penalty

PREDICTORS = ("qscore", "norm", "max", "neighbour", "confidence")  # the last one needs labels: a probe's own
BANDS = ("lower tail", "discriminative", "upper tail")
GAUGES = ("accuracy", "highly", "confidence", "auroc", "auprc")  # of an encoder before and after training on
STAGES = ("before", "plain", "qscore")  # of training on
SHOWN = 2000  # test samples whose features the live explorer moves epsilon and the band over
ROWS = 40  # samples of the heatmap of activations
BINS = np.linspace(0, 1, 51)  # of a magnitude, as a share of its sample's greatest
CURVE = np.linspace(0, 1, 201)  # where curves are kept

Cell = tuple[int, int, int]  # data set, method, seed


class Study(BaseStudy):
    """Representations → features → subsets → outcomes → prediction → regularizer → transfer → heatmaps → claims.

    Arrays are indexed [data set, method, seed, …] in the order of the names in ``scalars``; what was not trained, did
    not converge or is undefined is NaN, and ``scalars["reasons"]`` says why.
    """

    name = "qscore"
    decisions = decisions
    parameters: Parameters

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.encoders = Encoders(parameters)
        self.supplied: Encoder | None = None
        self.runs: dict[Cell, Pretrained] = {}
        self.judged: dict[Cell, Judged] = {}
        self.after: dict[tuple[Cell, str], tuple[Encoder, Judged]] = {}  # trained on, at the last of the rates

    @step
    def representations(self) -> Result:
        """Pretrain and probe every encoder; how sparse its features are (figure A.1)."""
        p = self.parameters
        self.supplied = load_encoder(p.encoder).eval() if p.encoder else None
        self._check()
        methods = [*p.trained, *(["encoder"] if self.supplied else [])]
        first = self.encoders.splits(p.datasets[0])["test"]
        self.result.scalars |= {
            **{name: list(getattr(p, name)) for name in ("datasets", "seeds", "masked", "shares")},
            "targets": list(p.unseen),
            "methods": methods,
            "self_supervised": [m for m in methods if m in OBJECTIVES and not OBJECTIVES[m].uses_labels],
            "test_images": [len(self.encoders.splits(name)["test"]) for name in p.datasets],
            "classes": list(first.classes),
            "pretraining": {"dataset": ", ".join(p.datasets), "images": len(self.encoders.source(p.datasets[0]))},
        }
        self.result.provenance["data"] = {name: self.encoders.source(name).checksum() for name in p.datasets}
        arrays = {name: self._empty() for name in ("accuracy", "near_zero", "kurtosis")}
        for cell in tqdm(self._cells(), desc="pretraining and probes", unit="encoder"):
            encoder = self._encoder(cell)
            if encoder is None:
                continue
            d, _, s = cell
            splits = self.encoders.splits(p.datasets[d])
            judged = self.judged[cell] = self.encoders.judge(self._name(cell), encoder, splits, p.seeds[s])
            h = judged.features["test"]
            arrays["accuracy"][cell] = judged.accuracy
            arrays["near_zero"][cell] = activations.near_zero_share(h)
            arrays["kurtosis"][cell] = activations.excess_kurtosis(h)
        expect(bool(self.judged), "objectives", "at least one that can be trained", self.encoders.reasons)
        self.result.arrays |= arrays | self._magnitudes()
        return self._noted()

    def _check(self) -> None:
        """Refuse what would stop the study after hours of training."""
        p = self.parameters
        channels = self.encoders.source(p.datasets[0]).images.shape[1]
        for name in dict.fromkeys((*p.datasets, *p.masked, *p.unseen)):
            for split, images in self.encoders.splits(name).items():
                got = images.images.shape[1]
                expect(got == channels, name, f"images of {channels} channels", got)
                has = name not in p.masked or images.masks is not None
                expect(has, "masked", "sets with masks", f"{name}, whose {split} split has none")
        if self.supplied is not None:
            got = self.supplied.in_channels
            expect(got == channels, "encoder", f"one for {channels} channels", got)
        names = [self.supplied] if self.supplied else []
        for encoder in (*names, *(p.skeleton(method, channels) for method in p.trained)):
            pictures.layers(encoder, p.heatmap_layer)

    def _cells(self) -> list[Cell]:
        """What is trained: all methods on all sets, the others on the first."""
        p, methods = self.parameters, self.result.scalars["methods"]
        everywhere = {*p.objectives, "encoder"}
        cells = itertools.product(range(len(p.datasets)), range(len(methods)), range(len(p.seeds)))
        return [cell for cell in cells if cell[0] == 0 or methods[cell[1]] in everywhere]

    def _encoder(self, cell: Cell) -> Encoder | None:
        d, m, s = cell
        method = self.result.scalars["methods"][m]
        if method == "encoder":
            return self.supplied
        if cell not in self.runs:
            self.runs[cell] = self.encoders.pretrained(self.parameters.datasets[d], method, self.parameters.seeds[s])
        return self.runs[cell].encoder if self.runs[cell].converged else None

    def _empty(self, *shape: int) -> np.ndarray:
        scalars = self.result.scalars
        return np.full(tuple(len(scalars[k]) for k in ("datasets", "methods", "seeds")) + shape, np.nan)

    def _name(self, cell: Cell) -> str:
        d, m, s = cell
        scalars = self.result.scalars
        return f"{scalars['methods'][m]} on {scalars['datasets'][d]}, seed {scalars['seeds'][s]}"

    def _noted(self) -> Result:
        """The result, up to date on what was trained and what went wrong."""
        self.result.scalars["reasons"] = dict(self.encoders.reasons)
        self.result.scalars["pretraining"]["trained"] = self.encoders.trained
        return self.result

    def _magnitudes(self) -> dict[str, np.ndarray]:
        """Of the first set and seed: activations [method, sample, feature] and the histogram of magnitudes."""
        width = max((judged.rate.numel() for judged in self.judged.values()), default=1)
        methods = len(self.result.scalars["methods"])
        magnitudes, density = (
            np.full((methods, ROWS, width), np.nan, np.float32),
            np.full((methods, len(BINS) - 1), np.nan),
        )
        for (d, m, s), judged in self.judged.items():
            if (d, s) == (0, 0):
                relative = judged.features["test"].abs()
                relative = relative / relative.amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
                density[m] = np.histogram(relative.numpy(), BINS)[0] / relative.numel()
                rows = relative[:ROWS]
                magnitudes[m, : len(rows), : relative.shape[1]] = rows.numpy()
        return {"activations": magnitudes, "magnitudes": density}

    # --- features -----------------------------------------------------------------------------------------------------

    @step
    def features(self) -> Result:
        """Activation rates, what features tell about the class, examples; AUROC against epsilon and the band."""
        p = self.parameters
        width = max((judged.rate.numel() for judged in self.judged.values()), default=1)
        rates, information = self._empty(width), self._empty(len(BANDS))
        grid = len(p.epsilons), len(p.lows)
        arrays = {"sensitivity": self._empty(*grid), "empty": self._empty(*grid)}
        for cell, judged in tqdm(self.judged.items(), desc="features", unit="encoder"):
            labels = self.encoders.splits(p.datasets[cell[0]])["train"].labels
            rates[cell][: len(judged.rate)] = judged.rate.numpy()
            information[cell] = self._information(judged, labels)
            for i, epsilon in enumerate(p.epsilons):
                rate = qscore.activation_rate(judged.features["train"], epsilon)
                for j, low in enumerate(p.lows):
                    mask, _ = band(rate, low, p.high)
                    if mask is not None:
                        score = qscore.q_score(judged.features["test"], mask, epsilon)
                        arrays["empty"][cell][i, j] = float((score == 0).double().mean())
                        arrays["sensitivity"][cell][i, j] = prediction.auroc(score.numpy(), judged.right.numpy())
        self.result.arrays |= {"rates": rates, "information": information} | arrays
        self.result.scalars |= {"bands": list(BANDS), "epsilons": list(p.epsilons), "lows": list(p.lows)}
        first = min(self.judged)
        test, encoder = self.encoders.splits(p.datasets[first[0]])["test"], self._encoder(first)
        self.result.arrays |= pictures.of_features(encoder, self.judged[first], test, p)
        self.result.arrays |= pictures.for_explorer(self.judged[first], SHOWN)
        self.result.scalars["pictured"] = self.result.scalars["methods"][first[1]]
        return self._noted()

    def _information(self, judged: Judged, labels: torch.Tensor) -> list[float]:
        """Mean information about the class, in bits, of features below, within and above the band."""
        p = self.parameters
        if judged.mask is None:
            return [np.nan] * len(BANDS)
        rates = activations.class_rates(judged.features["train"], labels, int(labels.max()) + 1, p.epsilon)
        bits = activations.mutual_information(rates, labels)
        least, most = judged.rate[judged.mask].min(), judged.rate[judged.mask].max()
        groups = judged.rate < least, judged.mask, judged.rate > most
        return [float(bits[group].mean()) for group in groups]  # NaN where there is no such feature

    @step
    def subset_probes(self) -> Result:
        """Probes on shares of the features, all of an encoder trained at once (figures 2, A.5, A.7)."""
        p = self.parameters
        accuracy = self._empty(len(SUBSETS), len(p.shares))
        for cell, judged in tqdm(self.judged.items(), desc="probes on subsets", unit="encoder"):
            if judged.probe.converged:
                splits = self.encoders.splits(p.datasets[cell[0]])
                accuracy[cell] = self.encoders.on_subsets(judged, splits, p.seeds[cell[2]])
        self.result.arrays["subsets"] = accuracy
        self.result.scalars["subsets"] = list(SUBSETS)
        return self._noted()

    @step
    def outcomes(self) -> Result:
        """Discriminative activations of right and wrong samples, per class (figures 3, A.3); the score of both."""
        p = self.parameters
        scores = self._empty(2)
        for cell, judged in self.judged.items():
            if judged.usable:
                score = qscore.q_score(judged.features["test"], judged.mask, p.epsilon)
                scores[cell] = [float(score[chosen].mean()) for chosen in (judged.right, ~judged.right)]
        self.result.arrays["score_by_outcome"] = scores
        first = min(self.judged)
        test = self.encoders.splits(p.datasets[first[0]])["test"]
        self.result.arrays["by_class"] = pictures.by_class(self.judged[first], test)
        return self._noted()

    @step
    def predict(self) -> Result:
        """How well the score, and simpler ones, predict which samples the probe gets right (figures 4 and A.9)."""
        p = self.parameters
        areas = {name: self._empty(len(PREDICTORS)) for name in ("auroc", "auprc")}
        replicates = {f"{name}_drawn": self._empty(len(PREDICTORS), p.rounds) for name in areas}
        base, lines = self._empty(), self._empty(2, len(CURVE))
        for cell, judged in tqdm(self.judged.items(), desc="prediction", unit="encoder"):
            if not judged.probe.converged:
                continue
            train, test = (judged.features[split] for split in ("train", "test"))
            scores = activations.sample_scores(test, train, judged.mask, p.epsilon)
            scores["confidence"] = judged.confidence
            base[cell] = float(judged.right.double().mean())
            for i, name in enumerate(PREDICTORS):
                if name in scores:
                    # The same draws for all encoders of a set: differences between them are paired by test image.
                    estimates = prediction.predicts(scores[name], judged.right, rounds=p.rounds)
                    areas["auroc"][cell][i], areas["auprc"][cell][i] = estimates.auroc[0], estimates.auprc[0]
                    replicates["auroc_drawn"][cell][i], replicates["auprc_drawn"][cell][i] = estimates.drawn.T
                    if estimates.undefined:
                        self.encoders.reasons[f"{self._name(cell)}: AUROC"] = estimates.undefined
            if judged.mask is not None and 0 < base[cell] < 1:
                lines[cell] = pictures.curves(scores["qscore"], judged.right, CURVE)
        replicates = {name: values.astype(np.float32) for name, values in replicates.items()}
        self.result.arrays |= areas | replicates | {"base_rate": base, "curves": lines}
        self.result.scalars["predictors"] = list(PREDICTORS)
        return self._noted()

    # --- the regularizer ----------------------------------------------------------------------------------------------

    @step
    def regularize(self) -> Result:
        """Train on with the penalty, with lasso, with neither, for the same steps (tables 1 and A.1, figure A.10)."""
        p = self.parameters
        before = self._empty(len(GAUGES))
        after = self._empty(len(p.further_rates), len(VARIANTS), len(GAUGES))
        for cell, judged in self.judged.items():
            before[cell] = self._gauges(judged)
        cells = [(*cell, r, v) for cell in self._regularizable() for r in range(len(p.further_rates)) for v in VARIANTS]
        for *cell, r, variant in tqdm(cells, desc="training on", unit="run"):
            cell = tuple(cell)
            penalty = self.encoders.penalty(variant, self.judged[cell].mask)
            encoder = self._further(cell, p.further_rates[r], penalty)
            if encoder is not None:
                judged = self._judged_like(cell, encoder, trained_on(p.further_rates[r], penalty))
                after[cell][r, VARIANTS.index(variant)] = self._gauges(judged)
                if r == len(p.further_rates) - 1:
                    self.after[cell, variant] = encoder, judged
        self.result.arrays |= {"before": before, "after": after}
        self.result.scalars |= {"gauges": list(GAUGES), "variants": list(VARIANTS), "rates": list(p.further_rates)}
        return self._noted()

    def _regularizable(self) -> list[Cell]:
        """Self-supervised encoders that have discriminative features, and a checkpoint with heads."""
        methods = self.result.scalars["methods"]
        allowed = set(self.result.scalars["self_supervised"])
        return [cell for cell, judged in self.judged.items() if methods[cell[1]] in allowed and judged.mask is not None]

    def _further(self, cell: Cell, rate: float, penalty: Penalty | None) -> Encoder | None:
        p, (d, m, s) = self.parameters, cell
        method = self.result.scalars["methods"][m]
        run = self.encoders.further(self.runs[cell], p.datasets[d], method, p.seeds[s], rate, penalty)
        return run.encoder if run.converged else None

    def _judged_like(self, cell: Cell, encoder: Encoder, settings: str) -> Judged:
        """An encoder that was trained on, by a probe of the same learning rate and decay as before."""
        p, splits = self.parameters, self.encoders.splits(self.parameters.datasets[cell[0]])
        name = f"{self._name(cell)}, {settings}"
        return self.encoders.judge(name, encoder, splits, p.seeds[cell[2]], self.judged[cell].probe)

    def _gauges(self, judged: Judged) -> list[float]:
        """Accuracy, mean number of highly activating features, mean confidence, AUROC and AUPRC of the Q-Score."""
        epsilon = self.parameters.epsilon
        h = judged.features["test"]
        areas = [np.nan, np.nan]
        if judged.usable:
            score = qscore.q_score(h, judged.mask, epsilon)
            estimates = prediction.predicts(score, judged.right, rounds=2)
            areas = [estimates.auroc[0], estimates.auprc[0]]
        highly = float(qscore.highly_activating(h, epsilon).sum(1).double().mean())
        confidence = float(judged.confidence.mean()) if judged.probe.converged else np.nan
        return [judged.accuracy, highly, confidence, *areas]

    @step
    def ablation(self) -> Result:
        """Both weights of the penalty, at the last rate, for the first self-supervised encoder (figure A.8)."""
        p = self.parameters
        cells = self._regularizable()[:1]
        cells = [cell for cell in self._regularizable() if cells and cell[:2] == cells[0][:2]]
        gauges = np.full((len(p.weights), len(p.norm_weights), len(p.seeds), len(GAUGES)), np.nan)
        grid = [(c, i, j) for c in cells for i in range(len(p.weights)) for j in range(len(p.norm_weights))]
        for cell, i, j in tqdm(grid, desc="ablation", unit="run"):
            penalty = Penalty("qscore", self.judged[cell].mask, p.weights[i], p.norm_weights[j], p.epsilon)
            encoder = self._further(cell, p.further_rates[-1], penalty)
            if encoder is not None:
                training = trained_on(p.further_rates[-1], penalty)
                gauges[i, j, cell[2]] = self._gauges(self._judged_like(cell, encoder, training))
        self.result.arrays["ablation"] = gauges
        self.result.scalars |= {"weights": list(p.weights), "norm_weights": list(p.norm_weights)}
        self.result.scalars["ablated"] = self._name(cells[0]).rpartition(",")[0] if cells else ""
        return self._noted()

    @step
    def transfer(self) -> Result:
        """Probes on unseen sets, before and after training on with and without the penalty (table A.2)."""
        p, methods = self.parameters, self.result.scalars["methods"]
        accuracy = np.full((len(p.unseen), len(methods), len(p.seeds), 3), np.nan)
        cells = [cell for cell in self._regularizable() if cell[0] == 0 and methods[cell[1]] in p.objectives]
        for cell, t in tqdm(list(itertools.product(cells, range(len(p.unseen)))), desc="transfer", unit="encoder"):
            splits = self.encoders.splits(p.unseen[t])
            regularized = [self.after.get((cell, variant)) for variant in ("plain", "qscore")]
            for v, encoder in enumerate((self._encoder(cell), *(pair and pair[0] for pair in regularized))):
                if encoder is not None:
                    name = f"{self._name(cell)}, on {p.unseen[t]}, {STAGES[v]}"
                    accuracy[t, *cell[1:], v] = self.encoders.judge(name, encoder, splits, p.seeds[cell[2]]).accuracy
        self.result.arrays["transfer"] = accuracy
        self.result.scalars["stages"] = list(STAGES)
        return self._noted()

    # --- heatmaps -----------------------------------------------------------------------------------------------------

    @step
    def heatmaps(self) -> Result:
        """Where discriminative features look: examples, and the overlap with masks (figures 5 to 7, A.4, A.6, A.11)."""
        p, methods = self.parameters, self.result.scalars["methods"]
        overlap = np.full((len(p.masked), len(methods), len(p.seeds), len(STAGES), 2, 2), np.nan)
        shifted = np.full((len(p.masked), len(p.masked), len(methods), len(p.seeds), 3), np.nan)
        area = np.full(len(p.masked), np.nan)
        for i, name in enumerate(p.masked):
            test = at_most(self.encoders.splits(name)["test"], p.heatmap_images)
            area[i] = float(test.masks.double().mean())
            chosen = p.objectives if name in p.datasets else p.on_masked
            for method, s in tqdm(list(itertools.product(chosen, range(len(p.seeds)))), desc=name, unit="encoder"):
                m = methods.index(method)
                stages = self._on_masked(name, m, s)
                for t, (encoder, judged) in stages.items():
                    overlap[i, m, s, t] = pictures.overlap(encoder, judged, test, p)
                if 0 not in stages:
                    continue
                encoder, judged = stages[0]
                for j, other in enumerate(p.masked):
                    elsewhere = self.encoders.splits(other)["test"]
                    if elsewhere.classes == test.classes:
                        shifted[i, j, m, s] = pictures.shifted(encoder, judged, elsewhere, p.epsilon)
        self.result.arrays |= {"overlap": overlap, "mask_area": area, "shifted": shifted}
        first = min(self.judged)
        test = self.encoders.splits(p.datasets[first[0]])["test"]
        before, after = (self._encoder(first), self.judged[first]), self.after.get((first, "qscore"))
        self.result.arrays |= pictures.of_samples(before, after, test, p)
        return self._noted()

    def _on_masked(self, name: str, m: int, s: int) -> dict[int, tuple[Encoder, Judged]]:
        """An encoder of a set with masks at each stage, with its judgement: before, and where it was trained on."""
        p = self.parameters
        if name in p.datasets:
            cell = (p.datasets.index(name), m, s)
            if cell not in self.judged:
                return {}
            after = {v: self.after.get((cell, variant)) for v, variant in enumerate(("plain", "qscore"), 1)}
            return {0: (self._encoder(cell), self.judged[cell])} | {v: pair for v, pair in after.items() if pair}
        method, splits = self.result.scalars["methods"][m], self.encoders.splits(name)
        run = self.encoders.pretrained(name, method, p.seeds[s])
        if not run.converged:
            return {}
        judged = self.encoders.judge(f"{method} on {name}, seed {p.seeds[s]}", run.encoder, splits, p.seeds[s])
        return {0: (run.encoder, judged)}


def run(parameters: Parameters) -> Result:
    """The whole study."""
    return Study(parameters).run()
