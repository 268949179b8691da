"""Do self-supervised and supervised networks learn similar representations? (Grigg et al. 2021): the study's steps."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.cluster import hierarchy
from torch import Tensor
from tqdm.auto import tqdm

from sslnb import data
from sslnb.core import device
from sslnb.core.checks import expect
from sslnb.core.flat import Result
from sslnb.core.seeds import seeded
from sslnb.data.images import ImageSet, at_most
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.load import load_encoder
from sslnb.encoders.resnet import untrained
from sslnb.features.extract import extract
from sslnb.features.layers import channel_means
from sslnb.features.nearest import knn_predict
from sslnb.features.scores import top1
from sslnb.metrics import cka
from sslnb.metrics.cka import Similarity, Source
from sslnb.metrics.indices import INDICES
from sslnb.objectives.registry import OBJECTIVES
from sslnb.studies.base import BaseStudy, step
from sslnb.studies.cka import claims as decisions
from sslnb.studies.cka.maps import group_ends
from sslnb.studies.cka.parameters import BANK, Parameters
from sslnb.training.cache import cached_checkpoints, cached_pretrain
from sslnb.training.loop import PretrainConfig
from sslnb.views.augment import Augmentation

SHOWN = 4  # images of the explorer


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
        self.trained, self.reasons, self.on = 0, {}, device.best_device()
        self.networks: dict[tuple[int, int], Encoder] = {}  # by method and seed
        self.encoders: list[dict[int, Encoder]] = []  # of the first seed, by step, for each method
        self.supplied: Encoder | None = None
        self.source: ImageSet | None = None  # what is pretrained on
        self.test: ImageSet | None = None

    @step
    def representations(self) -> Result:
        """Pretrain every network; kNN accuracies say how far they have come."""
        p = self.parameters
        self.supplied = load_encoder(p.encoder).eval().to(self.on) if p.encoder else None
        self.source = at_most(data.load(p.dataset, "train", size=p.size), p.limit)
        self.test = _shuffled(at_most(data.load(p.dataset, "test", size=p.size), p.test_limit), p.seeds[0])
        self._check()
        probed = at_most(data.load(p.dataset, "train", size=p.size), p.probe_limit)
        accuracy = np.full((len(p.methods), len(p.seeds)), np.nan)
        cells = [(m, s) for m in range(len(p.methods)) for s in range(len(p.seeds))]
        for m, s in tqdm(cells, desc="pretraining", unit="encoder"):
            method, seed = p.methods[m], p.seeds[s]
            config = p.config(method, seed, len(self.source))
            encoders = self._along(config, p.at if s == 0 else (p.steps,))
            if s == 0:
                self.encoders.append(encoders)
            self.networks[m, s] = encoders[p.steps]
            accuracy[m, s] = self._knn(self.networks[m, s], probed)
        self.result.arrays["accuracy"] = accuracy
        self.result.scalars |= {
            "methods": list(p.methods),
            "seeds": list(p.seeds),
            "layers": list(self.networks[0, 0].layer_names),
            "test_images": len(self.test),
            "untrained_accuracy": self._knn(self._untrained(), probed),
            "pretraining": {"dataset": p.dataset, "images": len(self.source), "trained": self.trained},
        }
        self.result.provenance["data"] = {p.dataset: self.source.checksum()}
        return self._noted()

    def _check(self) -> None:
        """Refuse what would stop the study after hours of training."""
        p, channels = self.parameters, self.source.images.shape[1]
        need = f"at least {p.least_images} images, for gram_batch, estimate_images, index_images and neighbours"
        expect(len(self.test) >= p.least_images, f"the test split of {p.dataset}", need, len(self.test))
        for method in (*p.methods, *p.others):
            config = p.config(method, p.seeds[0], len(self.source))
            with torch.device("meta"):  # its checks, and how many features it has
                kind, shape = OBJECTIVES[method], {"width": p.width, "stem": p.stem, "in_channels": channels}
                feature_dim = kind.build_encoder(p.depth, **shape, **config.options).feature_dim
            enough = f"more than the {feature_dim} channels of the last layer and one"
            expect(method in p.others or p.index_images > feature_dim + 1, "index_images", enough, p.index_images)
        if self.supplied is not None:
            got = self.supplied.in_channels
            expect(got == channels, "encoder", f"one for {channels} channels", got)
            cka.similarity([Source("encoder", self.test.images[: cka.LEAST], self.supplied)])  # all of its layers run

    def _along(self, config: PretrainConfig, at: Sequence[int]) -> dict[int, Encoder]:
        """Encoders of a run at some steps; without its last one there is nothing to study."""
        run = cached_checkpoints(config, self.source, at)
        self.trained += not run.reused
        whole = all(step in run.encoders for step in at)
        expect(whole, config.objective, f"{at[-1]} steps of pretraining that converge", run.reason)
        return {step: run.encoders[step].to(self.on) for step in at}

    def _untrained(self, seed: int | None = None, **changes: object) -> Encoder:
        """An untrained network, of a seed that nothing here was trained from unless one is given."""
        p = self.parameters
        shape = {"width": p.width, "stem": p.stem, "in_channels": self.source.images.shape[1]} | changes
        return untrained(max(p.seeds) + 1 if seed is None else seed, p.depth, **shape).to(self.on)

    def _other(self, m: int) -> Encoder:
        """A method's network to compare the first supervised one with: of another seed, where there is one."""
        return self.networks[m, min(1, len(self.parameters.seeds) - 1)]

    def _knn(self, encoder: Encoder, probed: ImageSet) -> float:
        features = [extract(encoder, images, device=self.on) for images in (probed, self.test)]
        return top1(knn_predict(features[0], probed.labels, features[1]), self.test.labels)

    def _compared(self, sources: Sequence[Source], **settings: object) -> Similarity:
        p = self.parameters
        return cka.similarity(sources, **{"batch_size": p.gram_batch, "seed": p.seeds[0]} | settings)

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
                if np.isfinite(effects).all():  # which takes enough seeds
                    self.result.arrays[f"drawn/{name}/{what}"] = effects.mean(-1)

    # --- the poster's panels ------------------------------------------------------------------------------------------

    @step
    def layer_similarity(self) -> Result:
        """All layers of all networks, of an untrained one, of a given one, and the one-hot labels, in one pass."""
        p, images = self.parameters, self.test.images
        sources = [Source(f"{m} {s}", images, network) for (m, s), network in self.networks.items()]
        sources += [Source("untrained", images, self._untrained()), Source("labels", self._one_hot())]
        sources += [Source("encoder", images, self.supplied)] if self.supplied else []
        similarity = self._compared(sources, permutations=p.permutations)
        values, names = similarity.values(), self.result.scalars["layers"]
        shape = (len(p.methods), len(p.seeds), len(names))
        trained = slice(0, len(self.networks) * len(names))
        groups, ends = group_ends(names)
        replicates = similarity.bootstrap(p.rounds, p.seeds[0])
        maps, simplex = self._by_method(values[trained, trained], len(names)), similarity.at("labels").start
        untrained_maps = values[trained, similarity.at("untrained")].numpy().reshape(*shape, -1)
        self.result.scalars["groups"] = groups
        self.result.arrays |= {"cka": maps, "untrained": untrained_maps}
        self.result.arrays["simplex"] = values[trained, simplex].view(shape)[..., ends].numpy()
        self._bounds(similarity, replicates)
        self._draw(
            ("C1", "C2", "C3", "C4", "C5"), {"cka": self._by_method(replicates[:, trained, trained], len(names))}
        )
        self._draw(("C7",), {"simplex": replicates[:, trained, simplex].view(-1, *shape)[..., ends].numpy()})
        if self.supplied:
            self.result.scalars["given_layers"] = list(similarity.layers["encoder"])
            rows = [similarity.between("encoder", f"{m} 0").values.numpy() for m in range(len(p.methods))]
            self.result.arrays["given"] = np.stack(rows)
        return self._noted()

    def _bounds(self, similarity: Similarity, replicates: Tensor) -> None:
        """Of the first supervised network against others [M,2,L,L], of another seed: the 95 % interval of CKA, and the
        95 % band of unrelated images."""
        shares = torch.tensor([0.025, 0.975], dtype=torch.float64)
        rows, other = similarity.at("0 0"), min(1, len(self.parameters.seeds) - 1)
        for name, draws in {"interval": replicates[:, rows], "null": similarity.null}.items():
            parts = [draws[..., similarity.at(f"{m} {other}")] for m in range(len(self.parameters.methods))]
            bounds = [part.flatten(1).quantile(shares, 0).view(2, *part.shape[1:]) for part in parts]
            self.result.arrays[name] = torch.stack(bounds).numpy()

    @step
    def invariance(self) -> Result:
        """Per group of blocks: CKA between two augmentations of the same images."""
        p = self.parameters
        strength = p.jitter_strength
        jitter = (0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
        view = Augmentation(scale=(p.crop_scale, 1.0), flip=p.flip, jitter=jitter, greyscale=0.2)
        views = [255 * view(self.test.images, seeded(p.seeds[0], i, torch.device("cpu"))) for i in (0, 1)]
        _, ends = group_ends(self.result.scalars["layers"])
        layers = [self.result.scalars["layers"][i] for i in ends]
        sources = [
            Source(f"{m} {s} {v}", images.round().byte(), network, layers)
            for (m, s), network in self.networks.items()
            for v, images in enumerate(views)
        ]
        similarity = self._compared(sources)
        self.result.arrays["views"] = self._between_views(similarity, similarity.values())
        self._draw(("C6",), {"views": self._between_views(similarity, similarity.bootstrap(p.rounds, p.seeds[0]))})
        return self._noted()

    def _between_views(self, similarity: Similarity, values: Tensor) -> np.ndarray:
        """CKA [..., M,S,G] between the two views of each network."""
        rows = []
        for m, s in self.networks:
            first, second = (similarity.at(f"{m} {s} {v}") for v in (0, 1))
            rows.append(values[..., first, second].diagonal(dim1=-2, dim2=-1))
        shape = (len(self.parameters.methods), len(self.parameters.seeds))
        return torch.stack(rows, -2).unflatten(-2, shape).numpy()

    # --- beyond the poster --------------------------------------------------------------------------------------------

    @step
    def objectives(self) -> Result:
        """Features of every objective against each other, and in which order they cluster."""
        p = self.parameters
        features = {"untrained": extract(self._untrained(stem=p.map_stem), self.test, device=self.on)}
        for method in (*p.methods, *p.others):
            run = cached_pretrain(p.mapped(method, p.seeds[0], len(self.source)), self.source)
            self.trained += not run.reused
            if run.converged:
                features[method] = extract(run.encoder, self.test, device=self.on)
            else:
                self.reasons[f"{method}, on the map of objectives"] = run.reason
        features["labels"] = self._one_hot()
        similarity = self._compared([Source(name, x) for name, x in features.items()])
        self.result.scalars["map"] = list(similarity.layers)
        self.result.arrays["map"] = values = similarity.values().numpy()
        distance = np.clip(1 - values[1:-1, 1:-1], 0, None)  # the estimate can be above 1 by chance
        if len(distance) > 1:
            flat = distance[np.triu_indices(len(distance), 1)]
            linkage = hierarchy.linkage(flat, "average")
            self.result.arrays["map_linkage"] = hierarchy.optimal_leaf_ordering(linkage, flat)
        return self._noted()

    @step
    def training(self) -> Result:
        """Checkpoints of the first seed's runs against each other, by group, from their common first weights on."""
        p, steps = self.parameters, (0, *self.parameters.at)
        groups, ends = group_ends(self.result.scalars["layers"])
        layers = [self.result.scalars["layers"][i] for i in ends]
        sources = [
            Source(f"{m} {t}", self.test.images, encoders[t] if t else self._untrained(p.seeds[0]), layers)
            for m, encoders in enumerate(self.encoders)
            for t in steps
        ]
        values = self._compared(sources).values().numpy()
        shape = (len(p.methods), len(steps), len(groups))
        same = np.diagonal(values.reshape(*shape, *shape), axis1=2, axis2=5)  # [M,T,M,T,G]
        methods = range(len(p.methods))
        self.result.arrays["training"] = np.stack([same[m, :, m] for m in methods])
        crossed = [np.diagonal(same[0, :, m], axis1=0, axis2=1).T for m in methods[1:]]
        self.result.arrays["training_across"] = np.stack(crossed)
        self.result.scalars["checkpoints"] = list(steps)
        return self._noted()

    @step
    def shapes(self) -> Result:
        """The map's network against one of another seed, depth and width, layer by layer."""
        p = self.parameters
        changes = {"another depth": {"depth": p.deep}, "another width": {"width": p.wide}}
        if len(p.seeds) > 1:
            changes = {"another seed": {}} | changes
        for m, method in enumerate(p.methods):
            sources = []
            for name, change in {"base": {}, **changes}.items():
                seed = p.seeds[name == "another seed"]
                run = cached_pretrain(p.mapped(method, seed, len(self.source), **change), self.source)
                self.trained += not run.reused
                expect(run.converged, method, f"pretraining that converges ({name})", run.reason)
                sources.append(Source(name, self.test.images, run.encoder.to(self.on)))
            similarity = self._compared(sources)
            for name in changes:
                self.result.arrays[f"shape/{m}/{name}"] = similarity.between("base", name).values.numpy()
            self.result.scalars["deep_layers"] = list(similarity.layers["another depth"])
        self.result.scalars["shapes"] = list(changes)
        return self._noted()

    @step
    def estimates(self) -> Result:
        """Minibatch estimates against the exact value over the batch size, biased ones too, and their null."""
        p = self.parameters
        images = at_most(self.test, p.estimate_images).images
        images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(p.seeds[0]))]
        sizes = (*p.batch_sizes, len(images))
        sources = [Source("supervised", images, self.networks[0, 0]), Source("other", images, self._other(1))]
        shape = (2, len(sizes), len(self.result.scalars["layers"]))
        estimate = {"estimate": np.empty((*shape, shape[-1])), "estimate_null": np.empty(shape)}
        for b, size in enumerate(tqdm(sizes, desc="estimates", unit="batch size")):
            for u, unbiased in enumerate((False, True)):
                similarity = self._compared(sources, batch_size=size, unbiased=unbiased, permutations=1)
                estimate["estimate"][u, b] = similarity.between("supervised", "other").values.numpy()
                estimate["estimate_null"][u, b] = similarity.null[0, :, similarity.at("other")].diagonal().numpy()
        self.result.arrays |= estimate
        self.result.scalars["estimate_sizes"] = list(sizes)
        return self._noted()

    @step
    def indices(self) -> Result:
        """Other indices on the channels' spatial means: supervised against another seed and against each method."""
        p = self.parameters
        images = at_most(self.test, p.index_images).images
        blocks = [n for n in self.result.scalars["layers"] if n != "stem" and not n.endswith(".residual")]
        first = channel_means(self.networks[0, 0], images, blocks)
        pairs = range(0 if len(p.seeds) > 1 else 1, len(p.methods))  # with itself only where there is another seed
        others = [channel_means(self._other(m), images, blocks) for m in pairs]
        values = np.full((len(pairs), len(INDICES), len(blocks)), np.nan)
        for i, other in enumerate(others):
            for j, index in enumerate(INDICES.values()):
                for k, name in enumerate(blocks):
                    values[i, j, k] = float(index(first[name], other[name]))
        self.result.arrays["indices"] = values
        self.result.scalars |= {"indices": list(INDICES), "index_layers": blocks}
        self.result.scalars["index_pairs"] = ["another seed" if m == 0 else p.methods[m] for m in pairs]
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
        positions = torch.unique(torch.cat([nearest.flatten(), queries]))
        place = torch.full((len(bank),), -1).index_put((positions,), torch.arange(len(positions)))
        self.result.arrays |= {
            "pictures": bank.images[positions].numpy(),
            "picture_labels": bank.labels[positions].numpy(),
            "queries": place[queries].numpy(),
            "nearest": place[nearest].numpy(),
        }
        self.result.scalars["classes"] = list(self.test.classes)
        return self._noted()


def _shuffled(images: ImageSet, seed: int) -> ImageSet:
    """In random order: minibatches of a set that is sorted by class would each hold one class."""
    return images.subset(torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)))


def _nearest(x: Tensor, queries: Tensor, k: int) -> Tensor:
    """Positions [Q,k] of the samples nearest to some in cosine similarity of centred features, themselves left out."""
    unit = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    likeness = unit[queries] @ unit.T
    likeness[torch.arange(len(queries)), queries] = -torch.inf
    return likeness.topk(k, dim=1).indices


def run(parameters: Parameters) -> Result:
    """The whole study."""
    return Study(parameters).run()
