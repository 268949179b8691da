"""Linear centred kernel alignment (CKA) of representations, exact or streamed, all pairs of layers at once.

Source: Kornblith et al. 2019, equations 2 to 4; the unbiased estimator is equation 5 of Song et al. 2012, averaged over
minibatches as in Nguyen, Raghu and Kornblith 2021, equation 3.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sslnb.core.checks import expect, expect_finite, expect_real, expect_tensor
from sslnb.core.numerics import centred, floats, rounding, scale_of, scaled
from sslnb.encoders.encoder import evaluating
from sslnb.features.extract import watching
from sslnb.features.layers import layer_names, run, where

LEAST = 4  # samples: with fewer the unbiased estimator divides by zero
COLUMNS = 4096  # features of a batch that are centred and multiplied at a time: 4 MB of 256 samples stay in the cache
# Of the squared trace of a centred Gram matrix: an unbiased estimate of HSIC(K, K) must be above that. Below, what is
# left of terms that cancel is mostly the rounding of products in float32, or of sums of squared products in float64.
RESOLVED = 1e-12


def centred_gram(x: Tensor, *, unbiased: bool = True) -> Tensor:
    """Centred Gram matrix [n,n] of features [n, …], float64; zero for features that do not vary.

    The inner product of two such matrices is n(n-3) times an estimate of HSIC: unbiased when the diagonals have been
    left out before centring (U-centring: Székely and Rizzo 2014, equation 2.5), else biased, by more the more features
    there are for a sample. Products are of float32 columns whose mean is taken away first (float64 stays as it is), and
    are added in float64: uncentred sums of float32 lose what tells the samples apart. ``ValueError`` for fewer than 4
    samples, or values that are not finite.
    """
    return _gram(x, unbiased)[0]


def _gram(x: Tensor, unbiased: bool) -> tuple[Tensor, Tensor]:
    """The matrix of :func:`centred_gram`, and what its product with itself must be above to be no rounding (or 0)."""
    n = len(x)
    expect_real(x, "x")
    expect(n >= LEAST, "x", f"at least {LEAST} samples", n)
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)  # as it lies in memory: the order of the features does not matter
    x = x.flatten(1)
    gram, offset = x.new_zeros(n, n, dtype=torch.float64), x.new_zeros((), dtype=torch.float64)
    half = n // 2  # the product is symmetric: three quarters of it are enough
    scale = scale_of(x)
    with torch.autocast(x.device.type, enabled=False):
        for part in x.split(COLUMNS, 1):
            part = scaled(floats(part), scale)
            mean = part.mean(0, keepdim=True)
            offset += n * mean.double().square().sum()
            part = part - mean
            gram[:half] += part[:half] @ part.T
            gram[half:, half:] += part[half:] @ part[half:].T
    gram[half:, :half] = gram[:half, half:].T
    expect_finite(gram, "x, its Gram matrix")
    trace = gram.trace()
    if trace <= rounding(x.dtype) ** 2 * offset:
        return torch.zeros_like(gram), torch.zeros_like(trace)
    if scale != 1:
        gram, trace = gram * scale**2, trace * scale**2
    if not unbiased:
        return gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean(), torch.zeros_like(trace)
    return _u_centred(gram), RESOLVED * trace.square()


def _u_centred(gram: Tensor) -> Tensor:
    n = len(gram)
    gram.fill_diagonal_(0)
    rows = gram.sum(0) / (n - 2)
    gram -= rows
    gram -= rows[:, None]
    gram += rows.sum() / (n - 1)
    return gram.fill_diagonal_(0)


def linear_cka(x: Tensor, y: Tensor, *, unbiased: bool = False) -> Tensor:
    """Linear CKA of two representations of the same samples, features [N, …] each: a scalar.

    In [0, 1] when biased; the unbiased estimate can fall below 0, where there is nothing to find. By features in
    float64 or by Gram matrices (:func:`centred_gram`), whichever is smaller. 0 where one of them does not vary; NaN
    where the unbiased estimate of one's HSIC with itself is not above its rounding, as for equally distant samples or
    a single one that differs: nothing can be told from those. ``ValueError`` for other numbers of samples, fewer than
    4, or values that are not finite. Source: Kornblith et al. 2019, equations 2 to 4; unbiased: Song et al. 2012,
    equation 5.
    """
    expect_tensor(x, "x")
    expect_tensor(y, "y")
    expect(x.ndim >= 2, "x", "shape [N, …]", f"shape {list(x.shape)}")
    expect(y.ndim >= 2 and len(y) == len(x), "y", f"{len(x)} samples, as many as x", f"shape {list(y.shape)}")
    expect(len(x) >= LEAST, "x", f"at least {LEAST} samples", len(x))
    for name, part in {"x": x, "y": y}.items():
        expect_real(part, name)
        expect_finite(part, name)
    x, y = (scaled(part.flatten(1)) for part in (x, y))
    if max(x.shape[1], y.shape[1]) >= len(x):
        (a, least_a), (b, least_b) = (_gram(part, unbiased) for part in (x, y))
        own, least = torch.stack([(a * a).sum(), (b * b).sum()]), torch.stack([least_a, least_b])
        return _normalised((a * b).sum(), *_resolved(own, least)).float()
    x, y = centred(x), centred(y)
    if not unbiased:
        inner = [(a.T @ b).square().sum() for a, b in ((x, y), (x, x), (y, y))]
        return _normalised(*inner).float()
    own = torch.stack([_unbiased_inner(x, x), _unbiased_inner(y, y)])
    least = RESOLVED * torch.stack([part.square().sum().square() for part in (x, y)])
    return _normalised(_unbiased_inner(x, y), *_resolved(own, least)).float()


def _unbiased_inner(x: Tensor, y: Tensor) -> Tensor:
    """n(n-3) times the unbiased HSIC out of centred features [N,d], without a Gram matrix.

    The diagonals are the rows' squared lengths; without them, centred Gram matrices have row sums that are minus those.
    """
    n, own, other = len(x), x.square().sum(1), y.square().sum(1)
    trace = (x.T @ y).square().sum() - own @ other
    return trace + own.sum() * other.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (own @ other)


def _resolved(own: Tensor, least: Tensor) -> Tensor:
    """HSIC of each with itself; 0 where its features do not vary, NaN where they do but the estimate does not tell."""
    return torch.where(least > 0, torch.where(own > least, own, torch.nan), own)


def _normalised(both: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), and 0 where one of the two is 0."""
    scale = (first * second).sqrt()
    constant = (first == 0) | (second == 0)
    return torch.where(constant, 0.0, both / torch.where(constant, 1, scale))


@dataclasses.dataclass(frozen=True)
class CKAMatrix:
    """CKA of every layer of one network (rows) with every layer of another (columns): values [La,Lb]."""

    values: Tensor
    layers_a: tuple[str, ...]
    layers_b: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Source:
    """Something that represents N inputs: a network's layers, or fixed features.

    inputs: images [N,C,H,W] for a ``model``, else features [N, …], which are one representation called ``name``.
    """

    name: str
    inputs: Tensor
    model: nn.Module | None = None
    layers: Sequence[str] | None = None

    def names(self) -> tuple[str, ...]:
        return (self.name,) if self.model is None else layer_names(self.model, self.layers)


@dataclasses.dataclass(frozen=True)
class Similarity:
    """Inner products of centred Gram matrices, of all layers of all sources, for every minibatch.

    products: float64 [B,L,L] for B minibatches and L layers together; layers: their names, by source; null: [P,La,L],
    CKA of the first source's layers with all, the first one's samples being in random order, or None; least: [B,L],
    what each layer's product with itself must be above, where that is unbiased.
    """

    products: Tensor
    layers: dict[str, tuple[str, ...]]
    null: Tensor | None = None
    least: Tensor | None = None

    def values(self) -> Tensor:
        """CKA [L,L] of all layers with all layers."""
        return cka_of(self.products.sum(0), None if self.least is None else self.least.sum(0))

    def at(self, source: str) -> slice:
        """Where the layers of a source are."""
        before = list(self.layers).index(source)
        start = sum(len(names) for names in list(self.layers.values())[:before])
        return slice(start, start + len(self.layers[source]))

    def between(self, a: str, b: str) -> CKAMatrix:
        """The layers of one source against those of another."""
        return CKAMatrix(self.values()[self.at(a), self.at(b)].float(), self.layers[a], self.layers[b])

    def bootstrap(self, rounds: int = 200, seed: int = 0) -> Tensor:
        """CKA [R,L,L] of minibatches drawn with replacement: how much it depends on the choice of the inputs.

        ``ValueError`` with a single minibatch.
        """
        count = len(self.products)
        expect(count >= 2, "minibatches", "at least 2 to draw from", count)
        draws = torch.randint(count, (rounds, count), generator=torch.Generator().manual_seed(seed))
        weights = torch.stack([torch.bincount(draw, minlength=count) for draw in draws]).to(self.products)
        products = (weights @ self.products.flatten(1)).view(rounds, *self.products.shape[1:])
        return cka_of(products, None if self.least is None else weights @ self.least)


def cka_of(products: Tensor, least: Tensor | None = None) -> Tensor:
    """CKA [..., L, L] out of inner products [..., L, L] of centred Gram matrices.

    0 for a matrix that is 0; NaN where a product with itself is not above ``least`` [..., L], which is not 0.
    """
    own = products.diagonal(dim1=-2, dim2=-1)
    own = own if least is None else _resolved(own, least)
    return _normalised(products, own[..., :, None], own[..., None, :])


def batches(n: int, batch_size: int) -> list[int]:
    """Sizes of minibatches, as equal as they can be, each of at most ``batch_size`` and at least 4 samples.

    Where n does not split that way (5 into batches of 4), a batch is larger. ``ValueError`` for fewer than 4 samples,
    or batches of fewer.
    """
    expect(n >= LEAST, "images", f"at least {LEAST}, which the unbiased estimator needs", n)
    expect(
        isinstance(batch_size, int) and batch_size >= LEAST,
        "batch_size",
        f"at least {LEAST}, which the unbiased estimator needs",
        batch_size,
    )
    count = min(-(-n // batch_size), n // LEAST)
    return [n // count + (i < n % count) for i in range(count)]


@torch.no_grad()
def similarity(
    sources: Sequence[Source],
    *,
    batch_size: int = 256,
    unbiased: bool = True,
    permutations: int = 0,
    seed: int = 0,
) -> Similarity:
    """CKA of all layers of all sources, in one pass over the inputs.

    Per minibatch each layer gives one centred and flattened Gram matrix, in a hook, so that no activation outlives its
    batch; all pairs are then one product of the rows. Row i of every source's inputs stands for the same sample, and
    samples are taken in their order: bring those of a sorted set into a random one first, or minibatches differ.
    ``permutations`` is how often the null of unrelated samples is drawn. Networks run in evaluation mode and get their
    mode back; Gram matrices are kept where the first one is. ``ValueError`` for sources of other lengths, of one name,
    too few samples, or a network whose layers are not called equally often in every batch.
    """
    n = _checked(sources)
    sizes = batches(n, batch_size)
    generator = torch.Generator().manual_seed(seed)
    on = next((where(source.model) for source in sources if source.model is not None), sources[0].inputs.device)
    products, least, nulls, layers = [], [], 0, {}
    # CKA does not depend on the scale of fixed features, but its products may overflow.
    whole = [source.inputs if source.model is not None else scaled(source.inputs) for source in sources]
    parts = [inputs.split(sizes) for inputs in whole]
    for b in tqdm(range(len(sizes)), desc="layer similarity", leave=False, delay=1):
        grams_of = [_grams(source, part[b], unbiased) for source, part in zip(sources, parts, strict=True)]
        names = {source.name: tuple(grams) for source, grams in zip(sources, grams_of, strict=True)}
        layers = layers or names
        expect(names == layers, "layers", f"the calls of the first batch, {layers}", names)
        first = len(grams_of[0])
        rows = torch.stack([gram.to(on) for grams in grams_of for gram, _ in grams.values()])
        least.append(torch.stack([smallest.cpu() for grams in grams_of for _, smallest in grams.values()]))
        del grams_of  # as much memory again
        products.append((rows.flatten(1) @ rows.flatten(1).T).cpu())
        nulls += _shuffled(rows, first, permutations, generator)
    null = None
    if permutations:
        own = _resolved(torch.stack(products).sum(0).diagonal(), torch.stack(least).sum(0))
        null = _normalised(nulls, own[:first, None], own)
    return Similarity(torch.stack(products), layers, null, torch.stack(least))


def _checked(sources: Sequence[Source]) -> int:
    """The number of samples that all sources represent."""
    expect(len(sources) > 0, "sources", "at least one", "none")
    names = [source.name for source in sources]
    expect(len(set(names)) == len(names), "sources", "distinct names", names)
    for source in sources:
        expect_tensor(source.inputs, "images" if source.model is not None else source.name)
        shape = f"shape {list(source.inputs.shape)}"
        expect(source.inputs.ndim >= 2, "images" if source.model is not None else source.name, "shape [N, …]", shape)
    counts = {source.name: len(source.inputs) for source in sources}
    expect(len(set(counts.values())) == 1, "sources", "as many inputs in each", counts)
    for source in sources:
        source.names()  # refuses unknown layers before anything runs
    return next(iter(counts.values()))


def _grams(source: Source, inputs: Tensor, unbiased: bool) -> dict[str, tuple[Tensor, Tensor]]:
    """What :func:`_gram` gives of a minibatch, by layer, in the order in which the layers were named."""
    if source.model is None:
        return {source.name: _gram(inputs, unbiased)}
    grams: dict[str, tuple[Tensor, Tensor]] = {}

    def see(name: str, output: Tensor) -> None:
        expect(len(output) == len(inputs), f"layer {name!r}", "one row per image", f"{len(output)} rows")
        try:
            grams[name] = _gram(output, unbiased)
        except ValueError as error:
            raise ValueError(f"layer {name!r} of {source.name!r}: {error}") from error

    names = source.names()
    with evaluating(source.model), watching(source.model, names, see):
        run(source.model, inputs)
    for name in names:
        expect(name in grams, "layers", "layers that run", f"{name!r}, which was not called")
    order = sorted(grams, key=lambda name: (names.index(name.partition("#")[0]), len(name), name))
    return {name: grams[name] for name in order}


def _shuffled(rows: Tensor, first: int, permutations: int, generator: torch.Generator) -> Tensor:
    """Products [P,first,L] of the first Gram matrices of [L,n,n], their samples in random order, with all."""
    layers, n = rows.shape[:2]
    null = torch.zeros(permutations, first, layers, dtype=rows.dtype)
    for values in null:
        order = torch.randperm(n, generator=generator).to(rows.device)
        values.copy_(rows[:first, order][:, :, order].flatten(1) @ rows.flatten(1).T)
    return null


def cka_matrix(
    encoder_a: nn.Module,
    encoder_b: nn.Module,
    images: Tensor,
    *,
    layers_a: Sequence[str] | None = None,
    layers_b: Sequence[str] | None = None,
    batch_size: int = 256,
) -> CKAMatrix:
    """CKA of every layer of one network with every layer of another, streamed over images [N,C,H,W].

    Layers are an encoder's own list unless named; one that runs twice in a pass is there twice, the second time as
    ``name#2``. Minibatches are of about equal size, their unbiased estimates of HSIC are added in float64; memory does
    not grow with N. 0 for a layer that does not vary, NaN as in :func:`linear_cka`. Errors as in :func:`similarity`.
    """
    a = Source("a", images, encoder_a, layers_a)
    if encoder_b is encoder_a and layers_a == layers_b:
        result = similarity([a], batch_size=batch_size)
        return result.between("a", "a")
    result = similarity([a, Source("b", images, encoder_b, layers_b)], batch_size=batch_size)
    return result.between("a", "b")
