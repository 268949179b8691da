"""Whatever public functions are given, they give a number, a documented NaN, or one line that names the argument."""

import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sslnb import features, metrics, objectives
from sslnb.encoders import resnet
from sslnb.features import heads, maxmargin, mlp, nearest, prediction, scores
from sslnb.metrics import activations, curvature, indices, trajectory
from sslnb.metrics.margins import stacked_margins


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


torch.manual_seed(0)
ENCODER = resnet(18, width=2).eval()
CLASSIFIER = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()
LABELS = torch.arange(12) % 3
FEATURES = draw(12, 6).exp()
IMAGES = draw(12, 3, 4, 4).sigmoid()
MASK = torch.tensor([True, False] * 3)
MASKS = draw(12, 4, 4) > -1
PROBABILITIES = draw(4, 12, 3).softmax(2)
DISTANCES = (draw(5, 1, 2) - draw(1, 5, 2, seed=1)).norm(dim=2)
DISTANCES = (DISTANCES + DISTANCES.T).fill_diagonal_(0)
PAIR = {"z1": draw(12, 6), "z2": draw(12, 6, seed=1)}
SPLITS = {"train": FEATURES, "train_labels": LABELS, "val": draw(12, 6, seed=1).exp(), "val_labels": LABELS}
CLASSIFIED = {"images": IMAGES, "labels": LABELS}
REMEMBERED = {"positive": draw(12, 6, seed=1), "negatives": draw(9, 6, seed=2), "leave_out": draw(12, 9) > 1}
BUDGETS = torch.tensor([0.0, 0.1, 0.2])
LINEAR = {"weight": draw(3, 6), "bias": draw(3), "features": FEATURES}


def standardized(scale: str) -> Callable[..., Tensor]:
    return lambda train, x: features.Standardizer(scale).fit(train).transform(x)


def fitted(train: Tensor, train_labels: Tensor, val: Tensor, val_labels: Tensor) -> Tensor:
    probe = features.LinearProbeGrid((0.1,), (1e-3,), epochs=1).fit(train, train_labels, val, val_labels)
    assert isinstance(probe.converged, bool)
    return probe.grid  # NaN where training diverged, as its documentation says


PROBE = features.LinearProbe(draw(3, 6), draw(3), 0.1, 0.0, True, torch.zeros(1, 1))

# Every public function with sound arguments: those that are tensors are what is broken below.
CALLS: dict[str, tuple[Callable, dict[str, object]]] = {
    "activation_rate": (metrics.activation_rate, {"h": FEATURES}),
    "bhattacharyya": (metrics.bhattacharyya, {"p": PROBABILITIES, "q": PROBABILITIES.flip(0)}),
    "cka_matrix": (
        partial(metrics.cka_matrix, ENCODER, ENCODER, layers_a=("layer1",), layers_b=("layer2",)),
        {"images": IMAGES},
    ),
    "discriminative": (metrics.discriminative, {"rate": torch.arange(10.0)}),
    "effective_accuracy": (
        metrics.effective_accuracy,
        {"accuracies": torch.tensor([0.9, 0.5, 0.1]), "budgets": BUDGETS},
    ),
    "feature_heatmaps": (
        partial(metrics.feature_heatmaps, ENCODER),
        {"images": IMAGES, "features": torch.tensor([0, 3])},
    ),
    "feature_heatmaps of a layer": (
        partial(metrics.feature_heatmaps, ENCODER, layer="layer2"),
        {"images": IMAGES, "features": torch.tensor([0, 3])},
    ),
    "fgsm": (
        partial(metrics.fgsm, CLASSIFIER),
        {"x": IMAGES, "y": LABELS, "eps": torch.full((12,), 0.1), "std": torch.ones(3)},
    ),
    "highly_activating": (metrics.highly_activating, {"h": FEATURES}),
    "inpca": (metrics.inpca, {"distances": DISTANCES}),
    "linear_cka": (metrics.linear_cka, {"x": FEATURES, "y": draw(12, 5)}),
    "linear_cka, unbiased": (partial(metrics.linear_cka, unbiased=True), {"x": FEATURES, "y": draw(12, 20)}),
    "loss_surface": (partial(metrics.loss_surface, CLASSIFIER, points=3), CLASSIFIED),
    "margins": (partial(metrics.margins, p=2), {**LINEAR, "labels": LABELS}),
    "mask_iou": (metrics.mask_iou, {"heatmaps": IMAGES[:, 0], "masks": MASKS}),
    "pgd": (partial(metrics.pgd, CLASSIFIER, steps=2), {"x": IMAGES, "y": LABELS, "eps": torch.full((12,), 0.1)}),
    "pgd in l2": (
        partial(metrics.pgd, CLASSIFIER, steps=2, norm="l2", bounds=None),
        {"x": IMAGES, "y": LABELS, "eps": 0.1},
    ),
    "progress": (metrics.progress, {"p": PROBABILITIES, "labels": LABELS}),
    "q_score": (partial(metrics.q_score, epsilon=1), {"h": FEATURES, "mask": MASK}),
    "q_score_penalty": (partial(metrics.q_score_penalty, epsilon=1), {"h": FEATURES, "mask": MASK}),
    "rankme": (metrics.rankme, {"h": FEATURES}),
    "alpha_req": (metrics.alpha_req, {"h": FEATURES}),
    "nesum": (metrics.nesum, {"h": FEATURES}),
    "spectral": (metrics.spectral, {"h": FEATURES}),
    "lidar": (metrics.lidar, {"views": draw(12, 3, 6)}),
    "uniformity": (metrics.uniformity, {"z": FEATURES}),
    "alignment": (metrics.alignment, PAIR),
    "feature_deviation": (metrics.feature_deviation, {"h": FEATURES}),
    "mean_q_score": (partial(metrics.mean_q_score, epsilon=1), {"h": FEATURES}),
    "clid": (metrics.clid, {"h": FEATURES}),
    "cluster_learnability": (metrics.cluster_learnability, {"h": FEATURES}),
    "intrinsic_dimension": (metrics.intrinsic_dimension, {"h": FEATURES}),
    "knn_agreement": (partial(metrics.knn_agreement, k=3), PAIR),
    "neighbour_overlap": (partial(metrics.neighbour_overlap, k=3), PAIR),
    "neural_collapse": (metrics.neural_collapse, {"h": FEATURES, "labels": LABELS}),
    "risk_coverage": (
        metrics.risk_coverage,
        {"scores": draw(12), "right": LABELS > 0, "weights": torch.ones(4, 12, dtype=torch.int64)},
    ),
    "robust_accuracy": (partial(metrics.robust_accuracy, p=math.inf), {**LINEAR, "labels": LABELS, "budgets": BUDGETS}),
    "LinearProbe": (lambda x, y: PROBE.accuracy(x, y, per_class=True), {"x": FEATURES, "y": LABELS}),
    "LinearProbeGrid": (fitted, SPLITS),
    "Standardizer": (standardized("unit_norm"), {"train": FEATURES, "x": draw(5, 6)}),
    "Standardizer to unit variance": (standardized("unit_variance"), {"train": FEATURES, "x": draw(5, 6)}),
    "extract": (partial(features.extract, ENCODER), {"images": IMAGES}),
    "knn_predict": (partial(features.knn_predict, k=3), {"train": FEATURES, "train_labels": LABELS, "x": draw(5, 6)}),
    "barlow_twins": (objectives.barlow_twins, PAIR),
    "dino": (objectives.dino, {"student": [*PAIR.values()], "teacher": [PAIR["z1"]], "center": draw(6)}),
    "info_nce": (objectives.info_nce, {"query": draw(12, 6), **REMEMBERED}),
    "nce": (objectives.nce, {"z": draw(12, 6), **REMEMBERED}),
    "lejepa": (objectives.lejepa, {"views": [*PAIR.values()], "directions": draw(4, 6)}),
    "sigreg": (objectives.sigreg, {"z": draw(12, 6), "directions": draw(4, 6)}),
    "negative_cosine": (objectives.negative_cosine, {"p": draw(12, 6), "z": draw(12, 6, seed=1)}),
    "nt_xent": (objectives.nt_xent, PAIR),
    "sinkhorn": (objectives.sinkhorn, {"scores": draw(12, 6)}),
    "sup_con": (objectives.sup_con, {"z": draw(12, 2, 6), "labels": LABELS}),
    "swav": (objectives.swav, {"scores": [*PAIR.values()]}),
    "vicreg": (objectives.vicreg, PAIR),
    # Not exported, but used by studies and notebooks.
    "auc": (scores.auc, {"logits": draw(12, 3), "labels": LABELS}),
    "auroc": (prediction.auroc, {"score": draw(12), "right": LABELS > 0}),
    "class_rates": (partial(activations.class_rates, classes=3), {"h": FEATURES, "labels": LABELS}),
    "excess_kurtosis": (activations.excess_kurtosis, {"h": FEATURES}),
    "geodesic": (trajectory.geodesic, {"p": PROBABILITIES[0], "q": PROBABILITIES[1], "positions": BUDGETS}),
    "hessian_trace": (partial(curvature.hessian_trace, CLASSIFIER, probes=2), CLASSIFIED),
    "max_margin": (lambda **given: maxmargin.max_margin(**given)[:2], {"features": FEATURES, "labels": LABELS}),
    "mlp": (lambda x, y: mlp.MLPProbe(4, (1e-3,), epochs=1).fit(**SPLITS).accuracy(x, y), {"x": FEATURES, "y": LABELS}),
    "mutual_information": (activations.mutual_information, {"rates": draw(6, 3).sigmoid(), "labels": LABELS}),
    "neighbour_similarity": (activations.neighbour_similarity, {"h": FEATURES, "train": draw(9, 6)}),
    "near_zero_share": (activations.near_zero_share, {"h": FEATURES}),
    "nearest_class_mean": (nearest.nearest_class_mean, {"train": FEATURES, "labels": LABELS, "x": draw(5, 6)}),
    "sample_scores": (activations.sample_scores, {"h": FEATURES, "train": draw(9, 6), "mask": MASK}),
    "stacked_margins": (
        stacked_margins,
        {"weight": draw(2, 3, 6), "bias": draw(2, 3), "features": FEATURES, "labels": LABELS},
    ),
    "top1": (scores.top1, {"predicted": LABELS, "labels": LABELS}),
    "top_eigenvalue": (partial(curvature.top_eigenvalue, CLASSIFIER, iterations=2), CLASSIFIED),
    "top_k": (scores.top_k, {"logits": draw(12, 3), "labels": LABELS}),
    "view_agreement": (activations.view_agreement, {"views": draw(12, 3, 6)}),
    "train_heads": (partial(heads.train_heads, classes=3, epochs=1), {"x": FEATURES[None], "y": LABELS[None]}),
    **{name: (index, {"x": FEATURES, "y": draw(12, 5)}) for name, index in indices.INDICES.items()},
}
RESULTS = {
    "CKAMatrix",
    "EffectiveAccuracy",
    "InPCA",
    "LossSurface",
    "NeuralCollapse",
    "RiskCoverage",
    "Spectral",
}  # what functions return
LOSSES = set(objectives.__all__)  # of embeddings that are not finite: training watches for it
MAY_BE_NAN = LOSSES | {
    "LinearProbeGrid", "RBF CKA", "RSA", "auroc", "cka_matrix", "class_rates", "excess_kurtosis",
    "linear_cka, unbiased", "loss_surface", "margins", "stacked_margins", "mutual_information", "hessian_trace",
    "top_eigenvalue",
    "neural_collapse",  # without a classifier
}  # fmt: skip
MAY_BE_INFINITE = {"margins", "stacked_margins"}  # where no class can be reached


@pytest.fixture(autouse=True, scope="module")
def every_warning() -> Iterator[None]:
    """Torch says most things once per process; here each time."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


def test_every_public_function_is_here():
    public = {*metrics.__all__, *features.__all__, *objectives.__all__}
    assert public - RESULTS <= CALLS.keys()


def spoilt(value: float) -> Callable[[Tensor], Tensor]:
    """One entry that is replaced; whole numbers become floats."""

    def change(x: Tensor) -> Tensor:
        x = real(x).clone() if x.is_floating_point() else real(x).float()
        x.view(-1)[: 1 if x.numel() else 0] = value
        return x

    return change


def casting(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda x: (x if dtype.is_complex else real(x)).to(dtype)


def real(x: Tensor) -> Tensor:
    return x.real if x.is_complex() else x


DTYPES = ["bool", "uint8", "int8", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64"]
CHANGES: dict[str, Callable[[Tensor], object]] = {
    **{name: casting(getattr(torch, name)) for name in DTYPES},
    **{f"{value} inside": spoilt(value) for value in (math.nan, math.inf, -math.inf, 1e30, -1.0)},
    "no rows": lambda x: x[:0],
    "no columns": lambda x: x[..., :0],
    "one row": lambda x: x[:1],
    "a row less": lambda x: x[:-1],
    "a column less": lambda x: x[..., :-1],
    "one of its second dimension": lambda x: x[:, :1] if x.ndim > 1 else x[:1],
    "scalar": lambda x: x.flatten()[0],
    "flat": lambda x: x.flatten(),
    "one more dimension": lambda x: x[None],
    "one more dimension behind": lambda x: x[..., None],
    "zeros": torch.zeros_like,
    "ones": torch.ones_like,
    "huge": lambda x: real(x).double() * 1e20,
    "huge float32": lambda x: real(x).float() * 1e20,
    "tiny": lambda x: real(x).float() * 1e-20,
    "opposite": lambda x: -x if x.is_floating_point() else -real(x).int(),
    "no tensor": lambda x: None,
    "text": lambda x: "text",
    "number": lambda x: 3.0,
    "list": lambda x: x.tolist(),
    "object": lambda x: object(),
    "other device": lambda x: x.to("meta"),
    "not contiguous": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "asks for a gradient": lambda x: x.clone().requires_grad_(x.is_floating_point()),
}


def numbers(result: object) -> Iterator[Tensor]:
    """All tensors in a result, numbers as tensors."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, int | float):
        yield torch.tensor(result)
    elif isinstance(result, dict):
        yield from numbers(list(result.values()))
    elif isinstance(result, list | tuple):
        for part in result:
            yield from numbers(part)
    elif hasattr(result, "__dict__"):
        yield from numbers(vars(result))


def assert_answers(name: str, arguments: dict[str, object]) -> None:
    call, _ = CALLS[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # discarded imaginary parts, means of nothing
            result = call(**arguments)
    except ValueError as error:
        message = str(error)
        named = message.partition(": expected ")[0]
        assert "\n" not in message and re.fullmatch(r".+: expected .+, got .+", message), message
        known = {*inspect.signature(call).parameters, *arguments, "layer"} | (
            {"features"} if name == "extract" else set()
        )
        assert set(re.findall(r"\w+", named)) & known, message
        return
    for part in numbers(result):
        part = part.double()
        allowed = part.isfinite()
        allowed |= part.isnan() if name in MAY_BE_NAN else torch.tensor(False)
        allowed |= part.isinf() if name in MAY_BE_INFINITE | LOSSES else torch.tensor(False)
        assert allowed.all(), f"{name} gives {part}"


def changed(value: object, how: str) -> object:
    """The tensor, or the first one of a list, broken."""
    if isinstance(value, list):
        return [changed(value[0], how), *value[1:]]
    return CHANGES[how](value)


def can_be_changed(value: object) -> bool:
    """Whether it is still a tensor with a row, or a list that starts with one."""
    if isinstance(value, list):
        return bool(value) and can_be_changed(value[0])
    return isinstance(value, Tensor) and value.ndim > 0 and value.numel() > 0 and not value.is_meta


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("name", CALLS)
def test_one_bad_argument_gives_a_number_or_one_line_that_names_it(name, how):
    _, sound = CALLS[name]
    for argument, value in sound.items():
        if not can_be_changed(value):
            continue
        assert_answers(name, sound | {argument: changed(value, how)})
        if isinstance(value, list):
            assert_answers(name, sound | {argument: CHANGES[how](value[0])})


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.data())
def test_several_bad_arguments_do_too(data):
    name = data.draw(st.sampled_from(sorted(CALLS)))
    arguments = dict(CALLS[name][1])
    for argument in arguments:
        for how in data.draw(st.lists(st.sampled_from(sorted(CHANGES)), max_size=2)):
            if can_be_changed(arguments[argument]):
                arguments[argument] = changed(arguments[argument], how)
    assert_answers(name, arguments)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", CALLS)
def test_no_function_depends_on_gradients_being_on(name, around):
    call, sound = CALLS[name]

    def run() -> list[Tensor]:
        torch.manual_seed(0)
        return [part.detach() for part in numbers(call(**{k: copied(v) for k, v in sound.items()}))]

    wanted = run()
    with around():
        found = run()
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.clone(), b, equal_nan=True)


def copied(value: object) -> object:
    if isinstance(value, list):
        return [copied(part) for part in value]
    return value.clone() if isinstance(value, Tensor) else value


def settings_of(name: str) -> dict[str, float]:
    """The numbers that a function takes besides its data, with what they are by default."""
    call, sound = CALLS[name]
    parameters = inspect.signature(call).parameters.items()
    fixed = {"seed", *sound}
    numbers = {key: p.default for key, p in parameters if key not in fixed and type(p.default) in (int, float)}
    given = call.keywords if isinstance(call, partial) else {}
    return numbers | {key: value for key, value in given.items() if type(value) in (int, float)}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 0, 1e-30])
@pytest.mark.parametrize("name", [name for name in CALLS if settings_of(name)])
def test_one_bad_number_gives_a_number_or_one_line_that_names_it(name, value):
    for setting in settings_of(name):
        assert_answers(name, CALLS[name][1] | {setting: value})
