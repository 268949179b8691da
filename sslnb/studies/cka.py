"""Do self-supervised and supervised networks learn similar representations? (Grigg et al. 2021): the study's steps."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.cluster import hierarchy
from torch import Tensor
from tqdm.auto import tqdm

from sslnb import cka, data
from sslnb.augment import Augmentation
from sslnb.checks import expect
from sslnb.cka import Similarity, Source
from sslnb.encoder_cache import cached_checkpoints, cached_pretrain
from sslnb.encoders import Encoder, load_encoder, untrained
from sslnb.features import extract
from sslnb.images import ImageSet, at_most
from sslnb.indices import INDICES
from sslnb.layers import channel_means
from sslnb.pretrain import PretrainConfig, seeded
from sslnb.probe import knn_predict, top1
from sslnb.results import Result
from sslnb.studies import cka_claims as decisions
from sslnb.studies.base import BaseStudy, step
from sslnb.studies.cka_parameters import Parameters

GROUPS = ("stem", "layer1", "layer2", "layer3", "layer4", "pool")  # bottleneck groups: the output of each stage
SHOWN = 4  # images of the explorer
BANK = 1000  # images among which their neighbours are looked for


class Study(BaseStudy):
    """Representations → layers → invariance → objectives → training → shapes → estimates → indices → neighbours.

    Arrays are indexed by the names in ``scalars``: methods (supervised first), seeds, layers, groups. ``cka`` is
    [M,S,M,S,L,L]. ``scalars["reasons"]`` says what could not be trained; there is nothing to compare it with.
    """

    name = "cka"
    decisions = decisions
    parameters: Parameters

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.trained, self.reasons = 0, {}
        self.networks: dict[tuple[int, int], Encoder] = {}  # by method and seed
        self.kept: list[dict[int, Encoder]] = []  # of the first seed, by step, for each method
        self.given: Encoder | None = None
        self.source: ImageSet | None = None  # what is pretrained on
        self.test: ImageSet | None = None
        self.layers: Similarity | None = None

    @step
    def representations(self) -> Result:
        """Pretrain every network; kNN accuracies say how far they have come."""
        p = self.parameters
        self.given = load_encoder(p.encoder).eval() if p.encoder else None
        self.source = at_most(data.load(p.dataset, "train", size=p.size), p.limit)
        self.test = at_most(data.load(p.dataset, "test", size=p.size), p.test_limit)
        self._check()
        probed = at_most(data.load(p.dataset, "train", size=p.size), p.probe_limit)
        accuracy = np.full((len(p.methods), len(p.seeds)), np.nan)
        cells = [(m, s) for m in range(len(p.methods)) for s in range(len(p.seeds))]
        for m, s in tqdm(cells, desc="pretraining", unit="encoder"):
            method, seed = p.methods[m], p.seeds[s]
            config = p.config(method, seed, len(self.source))
            kept = self._along(config, p.at if s == 0 else (p.steps,))
            if s == 0:
                self.kept.append(kept)
            self.networks[m, s] = kept[p.steps]
            accuracy[m, s] = self._knn(self.networks[m, s], probed)
        self.result.arrays["accuracy"] = accuracy
        self.result.scalars |= {
            "methods": list(p.methods),
            "seeds": list(p.seeds),
            "layers": list(self.networks[0, 0].layer_names),
            "groups": list(GROUPS),
            "test_images": len(self.test),
            "untrained_accuracy": self._knn(self._untrained(), probed),
            "pretraining": {"dataset": p.dataset, "images": len(self.source), "trained": self.trained},
        }
        self.result.provenance["data"] = {p.dataset: self.source.checksum()}
        return self._noted()

    def _check(self) -> None:
        """Refuse what would stop the study after hours of training."""
        p, channels = self.parameters, self.source.images.shape[1]
        for name in ("estimate_images", "index_images"):
            need = getattr(p, name)
            expect(need <= len(self.test), name, f"at most the {len(self.test)} test images", need)
        least = max(2 * p.gram_batch, p.neighbours + 1)
        expect(len(self.test) >= least, "test_limit", f"at least {least} test images", len(self.test))
        if self.given is not None:
            expect(
                self.given.in_channels == channels, "encoder", f"one for {channels} channels", self.given.in_channels
            )

    def _along(self, config: PretrainConfig, at: Sequence[int]) -> dict[int, Encoder]:
        """Encoders of a run at some steps; without its last one there is nothing to study."""
        run = cached_checkpoints(config, self.source, at)
        self.trained += not run.reused
        whole = all(step in run.encoders for step in at)
        expect(whole, config.objective, f"{at[-1]} steps of pretraining that converge", run.reason)
        return {step: run.encoders[step] for step in at}

    def _untrained(self) -> Encoder:
        p = self.parameters
        return untrained(p.seeds[0], p.depth, width=p.width, stem=p.stem, in_channels=self.source.images.shape[1])

    def _knn(self, encoder: Encoder, probed: ImageSet) -> float:
        features = [extract(encoder, images) for images in (probed, self.test)]
        return top1(knn_predict(features[0], probed.labels, features[1]), self.test.labels)

    def _compared(self, sources: Sequence[Source], **how: object) -> Similarity:
        p = self.parameters
        return cka.similarity(sources, **{"batch_size": p.gram_batch, "seed": p.seeds[0]} | how)

    def _noted(self) -> Result:
        self.result.scalars["reasons"] = dict(self.reasons)
        self.result.scalars["pretraining"]["trained"] = self.trained
        return self.result

    def _one_hot(self) -> Tensor:
        return torch.nn.functional.one_hot(self.test.labels, len(self.test.classes)).float()

    def _by_method(self, values: Tensor, size: int) -> np.ndarray:
        """Blocks [..., M·S·size, M·S·size] of the trained networks as [..., M,S,M,S,size,size]."""
        shape = (len(self.parameters.methods), len(self.parameters.seeds), size)
        blocks = values.numpy().reshape(*values.shape[:-2], *shape, *shape)
        return np.moveaxis(blocks, -4, -2)

    def _draw(self, names: Sequence[str], arrays: dict[str, np.ndarray]) -> None:
        """Keep what claims measure on bootstrap replicates: means over seeds [R] for each of their comparisons."""
        for name in names:
            for what, effects in decisions.measured(name, self.result.scalars, arrays):
                self.result.arrays[f"drawn/{name}/{what}"] = effects.mean(-1)

    # --- the poster's panels ------------------------------------------------------------------------------------------

    @step
    def layer_similarity(self) -> Result:
        """All layers of all networks, of an untrained one, of a given one, and the one-hot labels, in one pass."""
        p, images = self.parameters, self.test.images
        sources = [Source(f"{m} {s}", images, network) for (m, s), network in self.networks.items()]
        sources += [Source("untrained", images, self._untrained()), Source("labels", self._one_hot())]
        sources += [Source("encoder", images, self.given)] if self.given else []
        found = self._compared(sources, permutations=p.permutations)
        values, layers = found.values(), len(self.result.scalars["layers"])
        trained = len(self.networks) * layers
        own = slice(0, trained)
        self.result.arrays["cka"] = self._by_method(values[own, own], layers)
        self.result.arrays["untrained"] = (
            values[own, found.at("untrained")].numpy().reshape(len(p.methods), len(p.seeds), layers, layers)
        )
        self.result.arrays["simplex_layers"] = (
            values[own, found.at("labels")].numpy().reshape(len(p.methods), len(p.seeds), layers)
        )
        drawn = found.bootstrap(p.rounds, p.seeds[0])
        self._bounds(found, drawn, layers)
        self._draw(("C1", "C2", "C3", "C4", "C5"), {"cka": self._by_method(drawn[:, own, own], layers)})
        if self.given:
            self.result.scalars["given_layers"] = list(found.layers["encoder"])
            rows = [found.between("encoder", f"{m} 0").values.numpy() for m in range(len(p.methods))]
            self.result.arrays["given"] = np.stack(rows)
            self.result.arrays["given_simplex"] = found.between("encoder", "labels").values[:, 0].numpy()
        return self._noted()

    def _bounds(self, found: Similarity, drawn: Tensor, layers: int) -> None:
        """Of supervised against each method, first seeds: the 95 % interval, and the 95 % band of unrelated images."""
        shares = torch.tensor([0.025, 0.975], dtype=torch.float64)
        for name, draws in {"interval": drawn, "null": found.null}.items():
            rows = []
            for m in range(len(self.parameters.methods)):
                part = draws[:, found.at("0 0"), found.at(f"{m} 0")]
                rows.append(part.flatten(1).quantile(shares, 0).view(2, layers, layers))
            self.result.arrays[name] = torch.stack(rows).numpy()

    @step
    def invariance(self) -> Result:
        """Per group of blocks: two augmentations of the same images, and the one-hot labels, with each other."""
        p = self.parameters
        strength = p.jitter_strength
        jitter = (0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
        view = Augmentation(scale=(p.crop_scale, 1.0), flip=p.flip, jitter=jitter, greyscale=0.2)
        views = [
            (255 * view(self.test.images, seeded(p.seeds[0], i, torch.device("cpu")))).round().byte() for i in (0, 1)
        ]
        sources = [
            Source(f"{m} {s} {v}", images, network, GROUPS)
            for (m, s), network in self.networks.items()
            for v, images in enumerate((*views, self.test.images))
        ]
        found = self._compared([*sources, Source("labels", self._one_hot())])
        self.result.arrays |= self._groupwise(found, found.values())
        self._draw(("C6", "C7"), self._groupwise(found, found.bootstrap(p.rounds, p.seeds[0])))
        return self._noted()

    def _groupwise(self, found: Similarity, values: Tensor) -> dict[str, np.ndarray]:
        """CKA [..., M,S,G] between views, and with the labels."""
        views, simplex = [], []
        for m, s in self.networks:
            first, second, plain = (found.at(f"{m} {s} {v}") for v in range(3))
            views.append(values[..., first, second].diagonal(dim1=-2, dim2=-1))
            simplex.append(values[..., plain, found.at("labels")][..., 0])
        shape = (len(self.parameters.methods), len(self.parameters.seeds))
        return {
            name: torch.stack(rows, -2).unflatten(-2, shape).numpy()
            for name, rows in {"views": views, "simplex": simplex}.items()
        }

    # --- beyond the poster --------------------------------------------------------------------------------------------

    @step
    def objectives(self) -> Result:
        """Pooled features of every objective against each other, and in which order they cluster."""
        p = self.parameters
        sources = [Source("untrained", self.test.images, self._mapped_untrained(), ("pool",))]
        for method in (*p.methods, *p.others):
            run = cached_pretrain(p.mapped(method, p.seeds[0], len(self.source)), self.source)
            self.trained += not run.reused
            if run.converged:
                sources.append(Source(method, self.test.images, run.encoder, ("pool",)))
            else:
                self.reasons[f"{method}, on the map of objectives"] = run.reason
        found = self._compared([*sources, Source("labels", self._one_hot())])
        self.result.scalars["map"] = list(found.layers)
        values = found.values().numpy()
        self.result.arrays["map"] = values
        networks = np.clip(1 - values[1:-1, 1:-1], 0, None)  # the estimate can be above 1 by chance
        if len(networks) > 1:
            linkage = hierarchy.linkage(networks[np.triu_indices(len(networks), 1)], "average")
            self.result.arrays["map_linkage"] = hierarchy.optimal_leaf_ordering(
                linkage, networks[np.triu_indices(len(networks), 1)]
            )
        return self._noted()

    def _mapped_untrained(self) -> Encoder:
        p = self.parameters
        shape = {"width": p.width, "stem": p.map_stem, "in_channels": self.source.images.shape[1]}
        return untrained(p.seeds[0], p.depth, **shape)

    @step
    def training(self) -> Result:
        """Checkpoints of the first seed's runs against each other, group by group, the untrained network first."""
        p, steps = self.parameters, (0, *self.parameters.at)
        sources = [
            Source(f"{m} {t}", self.test.images, self._untrained() if t == 0 else kept[t], GROUPS)
            for m, kept in enumerate(self.kept)
            for t in steps
        ]
        values = self._compared(sources).values().numpy()
        shape = (len(p.methods), len(steps), len(GROUPS))
        blocks = values.reshape(*shape, *shape)
        same = np.diagonal(blocks, axis1=2, axis2=5)  # [M,T,M,T,G]
        self.result.arrays["training"] = np.stack([same[m, :, m] for m in range(len(p.methods))])
        self.result.arrays["training_across"] = np.stack(
            [np.diagonal(same[0, :, m], axis1=0, axis2=1).T for m in range(len(p.methods))]
        )
        self.result.scalars["checkpoints"] = list(steps)
        return self._noted()

    @step
    def shapes(self) -> Result:
        """The map's network against one of another seed, depth and width, layer by layer."""
        p = self.parameters
        changes = {"deeper": {"depth": p.deep}, "wider": {"width": p.wide}}
        if len(p.seeds) > 1:
            changes = {"another seed": {}} | changes
        for m, method in enumerate(p.methods):
            sources = []
            for name, change in {"base": {}, **changes}.items():
                seed = p.seeds[name == "another seed"]
                run = cached_pretrain(p.mapped(method, seed, len(self.source), **change), self.source)
                self.trained += not run.reused
                expect(run.converged, method, f"pretraining that converges ({name})", run.reason)
                sources.append(Source(name, self.test.images, run.encoder))
            found = self._compared(sources)
            for name in changes:
                self.result.arrays[f"shape/{m}/{name}"] = found.between("base", name).values.numpy()
            self.result.scalars["deep_layers"] = list(found.layers["deeper"])
        self.result.scalars["shapes"] = list(changes)
        return self._noted()

    @step
    def estimates(self) -> Result:
        """Minibatch estimates against the exact value over the batch size, biased ones too, and their null."""
        p = self.parameters
        images = at_most(self.test, p.estimate_images).images
        images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(p.seeds[0]))]
        sizes = (*p.batch_sizes, len(images))
        sources = [Source(str(m), images, self.networks[m, 0]) for m in (0, 1)]
        shape = (2, len(sizes), len(self.result.scalars["layers"]))
        found = {"estimate": np.empty((*shape, shape[-1])), "estimate_null": np.empty(shape)}
        for b, size in enumerate(tqdm(sizes, desc="estimates", unit="batch size")):
            for u, unbiased in enumerate((False, True)):
                one = self._compared(sources, batch_size=size, unbiased=unbiased, permutations=1)
                found["estimate"][u, b] = one.between("0", "1").values.numpy()
                found["estimate_null"][u, b] = one.null[0, one.at("0"), one.at("1")].diagonal().numpy()
        self.result.arrays |= found
        self.result.scalars["estimate_sizes"] = list(sizes)
        return self._noted()

    @step
    def indices(self) -> Result:
        """Other indices on the channels' spatial means: supervised against another seed and against each method."""
        p = self.parameters
        images = at_most(self.test, p.index_images).images
        blocks = [n for n in self.result.scalars["layers"] if n != "stem" and not n.endswith(".residual")]
        means = {cell: channel_means(network, images, blocks) for cell, network in self.networks.items() if cell[1] < 2}
        pairs = [(0, 1)] if (0, 1) in means else []
        pairs += [(m, 0) for m in range(1, len(p.methods))]
        found = np.full((len(pairs), len(INDICES), len(blocks)), np.nan)
        for i, pair in enumerate(pairs):
            for j, index in enumerate(INDICES.values()):
                for k, name in enumerate(blocks):
                    found[i, j, k] = float(index(means[0, 0][name], means[pair][name]))
        self.result.arrays["indices"] = found
        self.result.scalars |= {"indices": list(INDICES), "index_layers": blocks}
        self.result.scalars["index_pairs"] = ["another seed" if m == 0 else p.methods[m] for m, _ in pairs]
        return self._noted()

    @step
    def neighbours(self) -> Result:
        """For the explorer: a few test images, and those nearest to them in every layer of the first networks."""
        p = self.parameters
        bank = at_most(self.test, min(BANK, len(self.test)))
        queries = torch.arange(0, len(bank), max(1, len(bank) // SHOWN))[:SHOWN]
        nearest = []
        for m in range(len(p.methods)):
            means = channel_means(self.networks[m, 0], bank.images)
            nearest.append(torch.stack([_nearest(x, queries, p.neighbours) for x in means.values()]))
        nearest = torch.stack(nearest)  # [M,L,Q,k]
        shown = torch.unique(torch.cat([nearest.flatten(), queries]))
        place = torch.full((len(bank),), -1).index_put((shown,), torch.arange(len(shown)))
        self.result.arrays |= {
            "pictures": bank.images[shown].numpy(),
            "picture_labels": bank.labels[shown].numpy(),
            "queries": place[queries].numpy(),
            "nearest": place[nearest].numpy(),
        }
        self.result.scalars["classes"] = list(self.test.classes)
        return self._noted()


def _nearest(x: Tensor, queries: Tensor, k: int) -> Tensor:
    """Positions [Q,k] of the samples nearest to some in cosine similarity of centred features, themselves left out."""
    unit = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    likeness = unit[queries] @ unit.T
    likeness[torch.arange(len(queries)), queries] = -torch.inf
    return likeness.topk(k, dim=1).indices


def run(parameters: Parameters) -> Result:
    """The whole study."""
    return Study(parameters).run()
