"""Where models lie between ignorance and truth: distances between predictions, geodesics, progress, and InPCA.

Cowlagi, Liu and Neervannan 2022, "To Contrast or Not to Contrast", section 2.2, which follows Ramesh et al. 2022, "A
picture of the space of typical learnable tasks". A model is its class probabilities p [N,K] on N samples, and a point
on a product of N spheres: the square roots of a sample's probabilities have unit length. Probabilities may sum to one
within 1e-3, or 8e-3 in bfloat16, as those of low precision do; they are divided by their sum, so that a model is at
distance 0 from itself.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sslnb.core.checks import expect, expect_finite, expect_labels, expect_one_device, expect_real, expect_shape

FLOOR = 1e-6  # of a sample's affinity, about what float32 tells from 0: one sample is at most −log(FLOOR) = 13.8 away
GROUP = int(math.log(torch.finfo(torch.float32).tiny) / math.log(FLOOR))  # floors that float32 can hold the product of
BLOCK = 160  # models whose affinities to as many others are held at a time: a group of them stays in a core's cache
SUM_TOLERANCE = 1e-3  # of a sample's probabilities about 1: float16's eps; of bfloat16 its own is allowed
DISTANCE_TOLERANCE = 1e-5  # of the largest distance
HALVINGS = 24  # of [0, 1], to find progress to 3e-8


def bhattacharyya(p: Tensor, q: Tensor) -> Tensor:
    """Distances [T,S] between models p [T,N,K] and q [S,N,K]: d_B = −1/N Σ_i log Σ_c √(p_ic q_ic), in nats.

    A sample's affinity Σ_c √(p_ic q_ic) counts as at least ``FLOOR``, so models that never overlap are −log(FLOOR) =
    13.8 apart. Affinities are float32, their logarithms are summed in float64: right to 1e-6; what rounding leaves
    below 0 is 0. Results are float32, or float64 where p is. Where q is p (the same tensor), half is computed, the
    rest mirrored, and the diagonal is 0. Memory: twice T·S float64 and twice the inputs. ``ValueError`` for shapes that
    do not fit and what are not probabilities. Source: equation 7.
    """
    _expect_probabilities(p, "p", "T", "N", "K")
    same = q is p
    if not same:
        _expect_probabilities(q, "q", "S", *p.shape[1:])
        expect_one_device(p=p, q=q)
    u = _roots(p.float()).transpose(0, 1).contiguous()  # [N,T,K], so that each sample is a matrix product
    v = u if same else _roots(q.float()).transpose(0, 1).contiguous()
    total = torch.zeros(len(p), len(q), dtype=torch.double, device=p.device)
    for row in range(0, len(p), BLOCK):
        for column in range(row if same else 0, len(q), BLOCK):
            block = _sum_of_logs(u[:, row : row + BLOCK], v[:, column : column + BLOCK])
            total[row : row + BLOCK, column : column + BLOCK] = block
    distances = total.div_(-p.shape[1]).clamp_(min=0)
    if same:  # a block's own two halves differ by rounding
        distances = distances.triu_(1)
        distances = distances + distances.T
    return distances.to(_result_type(p))


def _sum_of_logs(u: Tensor, v: Tensor) -> Tensor:
    """Σ_i log max(u_i · v_i, FLOOR), [t,s], of roots u [N,t,K] and v [N,s,K].

    Logarithms are what costs most, so one is taken of the product of a few samples' affinities.
    """
    total = torch.zeros(u.shape[1], v.shape[1], dtype=torch.double, device=u.device)
    for few_u, few_v in zip(u.split(GROUP), v.split(GROUP), strict=True):
        affinity = torch.bmm(few_u, few_v.transpose(1, 2)).clamp_(min=FLOOR)
        total += affinity.prod(0).log_()
    return total


def geodesic(p: Tensor, q: Tensor, positions: Tensor) -> Tensor:
    """Probabilities [M,N,K] at positions λ [M] of the way from p [N,K] to q [N,K]; of p's type, computed in float64.

    Square roots move along each sample's great circle, √p · sin((1−λ)d)/sin(d) + √q · sin(λd)/sin(d) with d the angle
    between them; where p equals q they stay. ``ValueError`` for shapes that do not fit, what are not probabilities,
    and positions outside [0, 1]. Source: equation 5.
    """
    _expect_probabilities(p, "p", "N", "K")
    _expect_probabilities(q, "q", *p.shape)
    expect_one_device(p=p, q=q)
    expect_shape(positions, "positions", "M")
    expect_real(positions, "positions")
    expect_finite(positions, "positions")
    inside = bool(((positions >= 0) & (positions <= 1)).all())
    expect(inside, "positions", "values in [0, 1]", positions.tolist())
    u, v = _roots(p.double()), _roots(q.double())
    angle = 2 * torch.asin(torch.linalg.vector_norm(u - v, dim=1) / 2)  # acos(u · v) is NaN where rounding passes 1
    position = positions.to(u)[:, None]  # [M,1], against angles [N]
    roots = _sine_ratio(1 - position, angle)[..., None] * u + _sine_ratio(position, angle)[..., None] * v
    return roots.square().to(p.dtype)


def _sine_ratio(share: Tensor, angle: Tensor) -> Tensor:
    """sin(share · angle) / sin(angle), which tends to ``share`` as the angle goes to 0."""
    return share * torch.sinc(share * angle / math.pi) / torch.sinc(angle / math.pi)


def progress(p: Tensor, labels: Tensor) -> Tensor:
    """t_w [T] of models p [T,N,K]: the λ in [0, 1] of the nearest point on the geodesic from uniform to truth.

    Nearest in d_B; truth is all probability on ``labels`` [N]. 0 for the uniform model, 1 for truth, to 1e-7; computed
    in float64, the result is float32, or float64 where p is. No floor
    is needed: every point before truth itself overlaps with any model. ``ValueError`` for shapes that do not fit, what
    are not probabilities, labels that are not of K classes, and fewer than two classes.
    Source: equation 6, where "inf" stands for an argmin.
    """
    labels = _checked_labels(p, labels)
    return _nearest(p.double().sqrt(), labels).to(_result_type(p))


def raw_progress(p: Tensor, labels: Tensor) -> Tensor:
    """:func:`progress` [T] with p itself where √p belongs, a slip of a published plotting script: to show what it does.

    It overstates the progress of models that are right on most samples.
    """
    labels = _checked_labels(p, labels)
    return _nearest(p.double(), labels).to(_result_type(p))


def _nearest(values: Tensor, labels: Tensor) -> Tensor:
    """The λ [T] that maximises Σ_i log f_i(λ), f_i = Σ_c values_ic · (√ of the geodesic's point)_ic, values [T,N,K].

    From uniform to truth every sample has the same angle θ, and f_i = (start_i sin((1−λ)θ) + end_i sin(λθ)) / sin θ,
    with start_i > 0 and end_i ≥ 0. So f_i'' = −θ² f_i < 0: f_i is concave, so is its logarithm, so is the sum. There is
    one maximum, and the slope's sign says on which side of it λ lies.
    """
    classes = values.shape[2]
    angle = math.acos(classes**-0.5)
    start = values.sum(2) * classes**-0.5
    end = values.gather(2, labels.expand(values.shape[:2])[..., None])[..., 0]
    low, high = start.new_zeros(len(start)), start.new_ones(len(start))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rising = _slope(start, end, middle[:, None] * angle, angle) > 0
        low, high = torch.where(rising, middle, low), torch.where(rising, high, middle)
    return (low + high) / 2


def _slope(start: Tensor, end: Tensor, turned: Tensor, angle: float) -> Tensor:
    """Slope [T] of Σ_i log f_i, up to a positive factor, at angles ``turned`` [T,1] from uniform."""
    value = start * torch.sin(angle - turned) + end * torch.sin(turned)
    change = end * torch.cos(turned) - start * torch.cos(angle - turned)
    return (change / value).sum(1)


@dataclass(frozen=True, eq=False)
class InPCA:
    """Coordinates [T,components] of T models, and all eigenvalues [T], by falling size.

    A negative eigenvalue is an imaginary axis: along it, squared differences count as negative.
    """

    coordinates: Tensor
    eigenvalues: Tensor

    def reconstruct(self) -> Tensor:
        """D_ij = Σ_k sign(λ_k) (x_ik − x_jk)², [T,T]: the distances if all components are kept, else their part."""
        x, signs = self.coordinates.double(), self.eigenvalues[: self.coordinates.shape[1]].sign()
        products = (x * signs) @ x.T
        lengths = products.diagonal()
        return (lengths[:, None] + lengths - 2 * products).to(self.coordinates.dtype)


def inpca(distances: Tensor, components: int = 3) -> InPCA:
    """Models [T] in few dimensions, so that squared differences of coordinates give their distances [T,T].

    W = −P D P / 2 with P the centring matrix; coordinates v √|λ| of its eigenvectors v, by falling |λ|; eigenvalues
    may be negative. Computed in float64, the result is float32, or float64 where the distances are. An eigenvector's
    entry of greatest size is positive. ``ValueError`` for fewer than two models, components outside 1..T, values that
    are not finite, and distances that are asymmetric or not 0 on the diagonal, by more than 1e-5 of the largest.
    Source: Quinn et al. 2019, "Visualizing probabilistic models and data with intensive principal component analysis".
    """
    _expect_distances(distances)
    expect(1 <= components <= len(distances), "components", f"a number in 1..{len(distances)}", components)
    d = distances.double()
    d = (d + d.T) / 2
    w = -(d - d.mean(0) - d.mean(1, keepdim=True) + d.mean()) / 2
    eigenvalues, vectors = torch.linalg.eigh(w)
    order = eigenvalues.abs().argsort(descending=True, stable=True)
    eigenvalues, vectors = eigenvalues[order], vectors[:, order[:components]]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    coordinates = vectors * largest.sign() * eigenvalues[:components].abs().sqrt()
    return InPCA(*(part.to(_result_type(distances)) for part in (coordinates, eigenvalues)))


def _result_type(x: Tensor) -> torch.dtype:
    """Float64 for float64, else float32."""
    return torch.double if x.dtype == torch.double else torch.float


def _roots(p: Tensor) -> Tensor:
    """√p scaled to unit length, which is the square root of p divided by its sum."""
    return torch.nn.functional.normalize(p.sqrt(), dim=-1)


def _expect_probabilities(p: Tensor, argument: str, *shape: int | str) -> None:
    expect_shape(p, argument, *shape)
    expect(p.is_floating_point() and p.numel() > 0, argument, "floats, at least one", f"{p.dtype} {list(p.shape)}")
    expect_finite(p, argument)
    p = p.detach()
    expect(bool(p.min() >= 0), argument, "probabilities of at least 0", float(p.min()))
    sums = p.sum(-1, dtype=torch.double).flatten()
    worst = float(sums[(sums - 1).abs().argmax()])
    allowed = max(SUM_TOLERANCE, torch.finfo(p.dtype).eps)
    expect(abs(worst - 1) <= allowed, argument, f"probabilities that sum to 1 within {allowed:.2g}", worst)


def _checked_labels(p: Tensor, labels: Tensor) -> Tensor:
    """The labels, as int64."""
    _expect_probabilities(p, "p", "T", "N", "K")
    expect(p.shape[2] >= 2, "p", "at least two classes", p.shape[2])
    expect_shape(labels, "labels", p.shape[1])
    expect_one_device(p=p, labels=labels)
    return expect_labels(labels, p.shape[2])


def _expect_distances(distances: Tensor) -> None:
    expect_shape(distances, "distances", "T", "T")
    expect_shape(distances, "distances", len(distances), len(distances))
    expect(len(distances) >= 2, "distances", "at least two models", len(distances))
    expect_real(distances, "distances")
    expect_finite(distances, "distances")
    distances = distances.detach().double()
    allowed = DISTANCE_TOLERANCE * float(distances.abs().max())
    diagonal, skew = float(distances.diagonal().abs().max()), float((distances - distances.T).abs().max())
    expect(diagonal <= allowed, "distances", "0 on the diagonal", diagonal)
    expect(skew <= allowed, "distances", "a symmetric matrix", f"entries that differ by {skew}")
