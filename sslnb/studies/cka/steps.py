"""The study's steps: all layers of all compared networks against each other, and what tells how far to trust that.

Networks are the supervised ones, those of ``compared``, and controls that the pool has, at the seeds that all of them
have. ``cka`` has the dimensions objective, seed, objective_b, seed_b, layer, layer_b.
"""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from scipy.cluster import hierarchy
from torch import Tensor
from tqdm.auto import tqdm

from sslnb.core import device
from sslnb.core.checks import expect
from sslnb.core.labels import CONTROLS
from sslnb.data import ImageSet
from sslnb.data.images import at_most
from sslnb.encoders import Encoder
from sslnb.features import extract
from sslnb.features.layers import channel_means
from sslnb.metrics import cka
from sslnb.metrics.cka import Similarity, Source
from sslnb.metrics.indices import INDICES
from sslnb.studies.cka.claims import replicates_of
from sslnb.studies.cka.maps import group_ends
from sslnb.studies.cka.parameters import BANK, SUPERVISED
from sslnb.studies.measures import colour_view, drawn_views
from sslnb.studies.study import OWN, UNTRAINED, Context

SHOWN = 4  # images of the explorer
SHAPES = {"deep": "another depth", "wide": "another width"}  # suffix of a variant's name, and what it is
MAPS = ("objective", "seed", "objective_b", "seed_b", "layer", "layer_b")


class Networks:
    """The compared networks of a pool, by objective and seed, and the test images in random order."""

    def __init__(self, context: Context) -> None:
        p, pool = context.parameters, context.pool
        have = {name: context.seeds(name) for name in (SUPERVISED, *p.compared, *CONTROLS)}
        for name in (SUPERVISED, *p.compared):
            expect(bool(have[name]), "compared", f"members of the pool {p.pool!r}", name)
        self.seeds = sorted(set.intersection(*(have[name] for name in (SUPERVISED, *p.compared))))
        controls = [name for name in CONTROLS if have[name] >= set(self.seeds)]
        self.objectives = [SUPERVISED, *p.compared, *controls]
        on = device.best_device()
        self.by_name = {(o, s): pool.encoder(o, s).to(on) for o in self.objectives for s in self.seeds}
        # Of a seed that nothing was trained from: networks of one seed begin alike.
        self.untrained = pool.encoder(UNTRAINED, max(seed for _, seed in context.names) + 1).to(on)
        self.own = None if context.own is None else context.own.to(on)
        self.images = _shuffled(_compared_images(context), self.seeds[0])
        self.layers = list(self.first.layer_names)
        self.groups, ends = group_ends(self.layers)
        self.group_layers, self.ends = [self.layers[i] for i in ends], ends

    @property
    def first(self) -> Encoder:
        """The first supervised network."""
        return self.by_name[SUPERVISED, self.seeds[0]]

    def other(self, objective: str) -> Encoder:
        """An objective's network to compare the first supervised one with: of another seed, where there is one."""
        return self.by_name[objective, self.seeds[min(1, len(self.seeds) - 1)]]

    def coordinates(self) -> dict[str, object]:
        names = {"objective": self.objectives, "seed": self.seeds, "layer": self.layers}
        return names | {f"{key}_b": value for key, value in names.items()}


def check(context: Context) -> None:
    """Refuse images that can't be compared, or that an encoder does not take, and an encoder without layers."""
    p, images = context.parameters, _compared_images(context)
    expect(len(images) >= 2 * cka.LEAST, "dataset", f"at least {2 * cka.LEAST} images to compare", len(images))
    context.expect_usable("dataset", {"test": images})
    for name in (SUPERVISED, *p.compared):
        expect(name in context.plan.variants, "compared", f"objectives that the pool {p.pool!r} plans", name)
    count = len(images)
    for field, have in {"gram_batch": count // 2, "estimate_images": count, "index_images": count}.items():
        context.at_most(field, have)
    context.at_most("neighbours", min(BANK, count) - 1)
    fits = not p.asked("batch_sizes") or max(p.batch_sizes) < count
    expect(fits, "batch_sizes", f"sizes below {count:,}, the number of images", p.batch_sizes)
    if context.own is not None:
        cka.similarity([Source(OWN, images.images[: cka.LEAST], context.own)])


def _compared_images(context: Context) -> ImageSet:
    """The test split; of a small set that no encoder was trained on, all of it: nothing is fitted to them here."""
    p = context.parameters
    test = context.images(p.dataset, "test", p.test_limit)
    if len(test) >= 2 * p.gram_batch or p.dataset == context.plan.dataset:
        return test
    context.note(f"{p.dataset}: images of all splits are compared, since the test split has {len(test)}")
    parts = [context.images(p.dataset, split) for split in ("train", "val", "test")]
    images, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels"))
    return at_most(ImageSet(images, labels, test.classes, None, test.name), p.test_limit)


def _networks(context: Context) -> Networks:
    if "networks" not in context.memory:
        context.memory["networks"] = Networks(context)
    return context.memory["networks"]


def _compared(context: Context, sources: Sequence[Source], **settings: object) -> Similarity:
    # At least two minibatches: one alone has no spread.
    batch = context.at_most("gram_batch", len(_networks(context).images) // 2)
    shared = {"batch_size": batch, "seed": 0}
    return cka.similarity(sources, **shared | settings)


def _one_hot(images: ImageSet) -> Tensor:
    return torch.nn.functional.one_hot(images.labels, len(images.classes)).float()


def _blocks(values: Tensor, networks: Networks, size: int) -> np.ndarray:
    """Blocks [..., M·S·size, M·S·size] of the trained networks as [..., M,S,M,S,size,size]."""
    shape = (len(networks.objectives), len(networks.seeds), size)
    return np.moveaxis(values.numpy().reshape(*values.shape[:-2], *shape, *shape), -4, -2)


def layer_similarity(context: Context) -> xr.Dataset:
    """All layers of all networks, of an untrained one, of the user's own, and the one-hot labels, in one pass."""
    p, n = context.parameters, _networks(context)
    images, size = n.images.images, len(n.layers)
    sources = [Source(f"{o} {s}", images, network) for (o, s), network in n.by_name.items()]
    sources += [Source(UNTRAINED, images, n.untrained), Source("labels", _one_hot(n.images))]
    sources += [Source(OWN, images, n.own)] if n.own is not None else []
    similarity = _compared(context, sources, permutations=p.permutations)
    values, replicates = similarity.values(), similarity.bootstrap(p.rounds, 0)
    trained, labels = slice(0, len(n.by_name) * size), similarity.at("labels").start
    shape = (len(n.objectives), len(n.seeds), size)
    maps = {"cka": _blocks(values[trained, trained], n, size)}
    simplex = {"simplex": values[trained, labels].view(shape)[..., n.ends].numpy()}
    results = xr.Dataset(coords=n.coordinates() | {"group": n.groups, "bound": ["low", "high"]}).assign(
        cka=(MAPS, maps["cka"]),
        untrained=((*MAPS[:2], *MAPS[4:]), values[trained, similarity.at(UNTRAINED)].numpy().reshape(*shape, -1)),
        simplex=((*MAPS[:2], "group"), simplex["simplex"]),
    )
    shares = torch.tensor([0.025, 0.975], dtype=torch.float64)
    rows, other = similarity.at(f"{SUPERVISED} {n.seeds[0]}"), n.seeds[min(1, len(n.seeds) - 1)]
    for name, draws in {"interval": replicates[:, rows], "null": similarity.null}.items():
        parts = [draws[..., similarity.at(f"{objective} {other}")] for objective in n.objectives]
        bounds = [part.flatten(1).quantile(shares, 0).view(2, *part.shape[1:]) for part in parts]
        results[name] = ("objective", "bound", "layer", "layer_b"), torch.stack(bounds).numpy()
    drawn = {"cka": _blocks(replicates[:, trained, trained], n, size)}
    drawn["simplex"] = replicates[:, trained, labels].view(-1, *shape)[..., n.ends].numpy()
    for name, effects in replicates_of(("C1", "C2", "C3", "C4", "C5", "C7"), drawn, n.objectives, n.layers).items():
        results[f"drawn_{name}"] = "replicate", effects
    if n.own is not None:
        results = results.assign_coords(own_layer=list(similarity.layers[OWN]))
        rows = [similarity.between(OWN, f"{o} {n.seeds[0]}").values.numpy() for o in n.objectives]
        results["own"] = ("objective", "own_layer", "layer_b"), np.stack(rows)
    return results


def invariance(context: Context) -> xr.Dataset:
    """Per group of blocks: CKA between two augmentations of the same images."""
    p, n = context.parameters, _networks(context)
    view = colour_view(p.crop_scale, p.flip, p.jitter_strength)
    views = drawn_views(n.images.images, view, 2)
    sources = [
        Source(f"{o} {s} {v}", images, network, n.group_layers)
        for (o, s), network in n.by_name.items()
        for v, images in enumerate(views)
    ]
    similarity = _compared(context, sources)

    def between(values: Tensor) -> np.ndarray:
        """CKA [..., M,S,G] between the two views of each network."""
        rows = []
        for o, s in n.by_name:
            first, second = (similarity.at(f"{o} {s} {v}") for v in (0, 1))
            rows.append(values[..., first, second].diagonal(dim1=-2, dim2=-1))
        return torch.stack(rows, -2).unflatten(-2, (len(n.objectives), len(n.seeds))).numpy()

    coordinates = {"objective": n.objectives, "seed": n.seeds, "group": n.groups}
    results = xr.Dataset({"views": (tuple(coordinates), between(similarity.values()))}, coordinates)
    drawn = {"views": between(similarity.bootstrap(p.rounds, 0))}
    for name, effects in replicates_of(("C6",), drawn, n.objectives, n.layers).items():
        results[f"drawn_{name}"] = "replicate", effects
    return results


def objectives_map(context: Context) -> xr.Dataset:
    """Pooled features of every objective of the pool against each other, first seed, and how they cluster."""
    n, on = _networks(context), device.best_device()
    features = {UNTRAINED: extract(n.untrained, n.images, device=on)}
    for objective, seed in context.names:
        if objective not in (*features, OWN):
            features[objective] = extract(context.encoder(objective, seed), n.images, device=on)
    features["labels"] = _one_hot(n.images)
    similarity = _compared(context, [Source(name, x) for name, x in features.items()])
    values, names = similarity.values().numpy(), list(similarity.layers)
    results = xr.Dataset({"map": (("network", "network_b"), values)}, {"network": names, "network_b": names})
    distance = np.clip(1 - values[1:-1, 1:-1], 0, None)  # the estimate can be above 1 by chance
    flat = distance[np.triu_indices(len(distance), 1)]
    linkage = hierarchy.optimal_leaf_ordering(hierarchy.linkage(flat, "average"), flat)
    results["linkage"] = ("merge", "field"), linkage
    return results


def training(context: Context) -> xr.Dataset:
    """Encoders kept along the first seed's runs against each other, by group, from their common first weights on."""
    n, pool = _networks(context), context.pool
    seed = n.seeds[0]
    objectives = [name for name in n.objectives if name in pool.scale.variants]  # the others are no runs of their own
    kept = {objective: pool.steps(objective, seed) for objective in objectives}
    steps = [step for step in kept[SUPERVISED] if all(step in own for own in kept.values())]
    sources = []
    for objective in objectives:
        for step in (0, *steps):
            at = None if step == kept[objective][-1] else step
            network = pool.encoder(objective, seed, step=at) if step else pool.encoder(UNTRAINED, seed)
            sources.append(Source(f"{objective} {step}", n.images.images, network, n.group_layers))
    values = _compared(context, sources).values().numpy()
    shape = (len(objectives), 1 + len(steps), len(n.groups))
    same = np.diagonal(values.reshape(*shape, *shape), axis1=2, axis2=5)  # [M,T,M,T,G]
    coordinates = {"objective": objectives, "step": [0, *steps], "step_b": [0, *steps], "group": n.groups}
    return xr.Dataset(
        {
            "own": (("objective", "step", "step_b", "group"), np.stack([same[m, :, m] for m in range(shape[0])])),
            "to_supervised": (
                ("objective", "step", "group"),
                np.stack([np.diagonal(same[0, :, m], axis1=0, axis2=1).T for m in range(shape[0])]),
            ),
        },
        coordinates,
    )


def shapes(context: Context) -> xr.Dataset:
    """A network against one of another seed, and of another depth and width where the pool has one, layer by layer."""
    n, results = _networks(context), xr.Dataset(coords={"layer": _networks(context).layers})
    for objective in n.objectives[:2]:
        others = {"another seed": n.other(objective)} if len(n.seeds) > 1 else {}
        for suffix, text in SHAPES.items():
            if context.pool.seeds(f"{objective}_{suffix}"):
                others[text] = context.pool.encoder(f"{objective}_{suffix}", n.seeds[0])
        first = n.by_name[objective, n.seeds[0]]
        sources = [Source("base", n.images.images, first)]
        similarity = _compared(context, sources + [Source(text, n.images.images, net) for text, net in others.items()])
        for text in others:
            pair, dim = similarity.between("base", text), f"layer of {text}"
            results = results.assign_coords({dim: list(pair.layers_b)})
            results[f"{objective}, {text}"] = ("layer", dim), pair.values.numpy()
    return results


def estimates(context: Context) -> xr.Dataset:
    """Minibatch estimates against the exact value over the batch size, biased ones too, and their null."""
    p, n = context.parameters, _networks(context)
    images = at_most(n.images, context.at_most("estimate_images", len(n.images))).images
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    sizes = (*(size for size in p.batch_sizes if size < len(images)), len(images))
    sources = [Source("supervised", images, n.first), Source("other", images, n.other(n.objectives[1]))]
    estimate = np.empty((2, len(sizes), len(n.layers), len(n.layers)))
    null = np.empty(estimate.shape[:3])
    for b, size in enumerate(tqdm(sizes, desc="estimates", unit="batch size")):
        for u, unbiased in enumerate((False, True)):
            similarity = _compared(context, sources, batch_size=size, unbiased=unbiased, permutations=1)
            estimate[u, b] = similarity.between("supervised", "other").values.numpy()
            null[u, b] = similarity.null[0, :, similarity.at("other")].diagonal().numpy()
    coordinates = {"kind": ["biased", "unbiased"], "size": list(sizes), "layer": n.layers, "layer_b": n.layers}
    arrays = {"estimate": (tuple(coordinates), estimate), "null": (("kind", "size", "layer"), null)}
    return xr.Dataset(arrays, coordinates)


def indices(context: Context) -> xr.Dataset:
    """Other indices on the channels' spatial means: supervised against another seed and against each objective.

    Of blocks with fewer channels than there are images: all others have some index at 1 by their size alone.
    """
    n = _networks(context)
    images = at_most(n.images, context.at_most("index_images", len(n.images))).images
    blocks = [name for name in n.layers if name != "stem" and not name.endswith(".residual")]
    first = channel_means(n.first, images, blocks)
    wide = [name for name in blocks if first[name].shape[1] + 1 >= len(images)]
    if wide:
        context.note(f"indices: without {', '.join(wide)}, which have too many channels for {len(images)} images")
    blocks = [name for name in blocks if name not in wide]
    pairs = n.objectives if len(n.seeds) > 1 else n.objectives[1:]  # with itself only where there is another seed
    values = np.full((len(pairs), len(INDICES), len(blocks)), np.nan)
    for i, objective in enumerate(pairs):
        other = channel_means(n.other(objective), images, blocks)
        for j, index in enumerate(INDICES.values()):
            values[i, j] = [float(index(first[name], other[name])) for name in blocks]
    coordinates = {"objective": list(pairs), "index": list(INDICES), "block": blocks}
    return xr.Dataset({"similarity": (tuple(coordinates), values)}, coordinates)


def neighbours(context: Context) -> xr.Dataset:
    """For the explorer: a few test images, and those nearest to them in every layer of the first networks."""
    n = _networks(context)
    bank = at_most(n.images, min(BANK, len(n.images)))
    queries = torch.arange(0, len(bank), max(1, len(bank) // SHOWN))[:SHOWN]
    nearest = torch.stack([_of_layers(n.by_name[o, n.seeds[0]], bank, queries, context) for o in n.objectives])
    positions = torch.unique(torch.cat([nearest.flatten(), queries]))
    place = torch.full((len(bank),), -1).index_put((positions,), torch.arange(len(positions)))
    return xr.Dataset(
        {
            "picture": (("sample", "channel", "row", "column"), bank.images[positions].numpy()),
            "label": ("sample", [bank.classes[k] for k in bank.labels[positions].tolist()]),
            "query_sample": ("query", place[queries].numpy()),
            "nearest": (("objective", "layer", "query", "rank"), place[nearest].numpy()),
        },
        {"objective": n.objectives, "layer": n.layers},
    )


def _of_layers(network: Encoder, bank: ImageSet, queries: Tensor, context: Context) -> Tensor:
    """Positions [L,Q,k] of the images nearest to some in every layer."""
    means = channel_means(network, bank.images)
    count = context.at_most("neighbours", len(bank) - 1)
    return torch.stack([_nearest(x, queries, count) for x in means.values()])


def _shuffled(images: ImageSet, seed: int) -> ImageSet:
    """In random order: minibatches of a set that is sorted by class would each hold one class."""
    return images.subset(torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)))


def _nearest(x: Tensor, queries: Tensor, k: int) -> Tensor:
    """Positions [Q,k] of the samples nearest to some in cosine similarity of centred features, themselves left out."""
    unit = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    likeness = unit[queries] @ unit.T
    likeness[torch.arange(len(queries)), queries] = -torch.inf
    return likeness.topk(k, dim=1).indices
