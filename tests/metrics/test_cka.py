import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sslnb.encoders.resnet import resnet, untrained
from sslnb.features.layers import channel_means
from sslnb.metrics import cka
from sslnb.metrics.cka import Source, batches, centred_gram, cka_matrix, linear_cka, similarity


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def pictures(n: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


# Naive versions, straight from the formulas


def naive_hsic(k: np.ndarray, other: np.ndarray, unbiased: bool) -> float:
    n = len(k)
    if not unbiased:
        centre = np.eye(n) - 1 / n
        return float(np.trace(k @ centre @ other @ centre))
    k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
    total = 0.0
    for i in range(n):
        for j in range(n):
            total += k[i, j] * other[j, i]
    one = np.ones(n)
    total += (one @ k @ one) * (one @ other @ one) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (one @ k @ other @ one)) / (n * (n - 3))


def naive_cka(x: Tensor, y: Tensor, unbiased: bool) -> float:
    k, other = ((a.double() @ a.double().T).numpy() for a in (x.flatten(1), y.flatten(1)))
    both, first, second = (naive_hsic(*pair, unbiased) for pair in ((k, other), (k, k), (other, other)))
    return both / np.sqrt(first * second)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize(("d1", "d2"), [(5, 7), (5, 60), (80, 60)])
def test_cka_equals_the_formula_by_features_and_by_gram_matrices(d1: int, d2: int, unbiased: bool) -> None:
    x = draw(30, d1) + 3
    y = draw(30, d2, 1) + x[:, :1]
    assert float(linear_cka(x, y, unbiased=unbiased)) == pytest.approx(naive_cka(x, y, unbiased), abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 40), st.integers(1, 50), st.integers(0, 99))
def test_cka_of_itself_is_one(n: int, d: int, seed: int) -> None:
    x = draw(n, d, seed)
    for unbiased in (False, True):
        assert float(linear_cka(x, x, unbiased=unbiased)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("unbiased", [False, True])
def test_cka_does_not_see_rotation_scale_or_shift_but_other_linear_maps(unbiased: bool) -> None:
    x, y = draw(60, 8), draw(60, 8, 1) + draw(60, 8)
    rotation = torch.linalg.qr(draw(8, 8, 2))[0]
    before = float(linear_cka(x, y, unbiased=unbiased))
    assert float(linear_cka(3 * x @ rotation + 5, y, unbiased=unbiased)) == pytest.approx(before, abs=1e-5)
    stretched = float(linear_cka(x @ torch.diag(torch.logspace(0, 2, 8)), y, unbiased=unbiased))
    assert abs(stretched - before) > 0.05
    assert float(linear_cka(y, x, unbiased=unbiased)) == pytest.approx(before, abs=1e-6)


def test_unrelated_samples_look_alike_to_the_biased_estimate_alone() -> None:
    x, y = draw(50, 500), draw(50, 500, 1)
    assert float(linear_cka(x, y)) > 0.8
    assert abs(float(linear_cka(x, y, unbiased=True))) < 0.1


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("d", [3, 50])
def test_constant_features_share_nothing(d: int, unbiased: bool) -> None:
    constant = torch.full((20, d), 0.1)  # whose mean is not exactly 0.1 in float32
    assert float(linear_cka(constant, draw(20, d), unbiased=unbiased)) == 0
    assert float(linear_cka(constant, constant, unbiased=unbiased)) == 0
    assert not centred_gram(constant).any()


def test_small_variation_around_a_large_mean_is_seen() -> None:
    """Float32 sums of the plain products would lose it."""
    x = draw(40, 300)
    far = (x + 300).float()
    exact = naive_cka(far.double() - far.double().mean(0), x, True)
    assert float(linear_cka(far, x, unbiased=True)) == pytest.approx(exact, abs=1e-4)
    plain = far @ far.T
    centred = plain - plain.mean(0) - plain.mean(1, keepdim=True) + plain.mean()
    own = far.double() - far.double().mean(0)
    assert (centred - own @ own.T).abs().max() > 10 * (centred_gram(far, unbiased=False) - own @ own.T).abs().max()


@pytest.mark.parametrize("n", [4, 5, 31])
def test_the_gram_matrix_does_not_depend_on_how_it_is_put_together(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(n, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    whole = centred_gram(x)
    monkeypatch.setattr(cka, "COLUMNS", 7)
    for same in (x, x.contiguous(memory_format=torch.channels_last), x.double()):
        torch.testing.assert_close(centred_gram(same), whole, atol=1e-3, rtol=1e-5)
    assert whole.dtype == torch.float64 and not whole.diagonal().any()
    assert whole.sum(0).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (draw(3, 5), draw(3, 5), "x: expected at least 4 samples, got 3"),
        (draw(8, 5), draw(9, 5), "y: expected 8 samples"),
        (draw(8, 5)[:, 0], draw(8, 5), "x: expected shape"),
        (draw(8, 5), torch.full((8, 5), float("nan")), "y: expected finite values"),
    ],
)
def test_bad_features_are_refused(x: Tensor, y: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        linear_cka(x, y)


# --- networks -------------------------------------------------------------------------------------------------------


class Twice(nn.Module):
    """One activation module that runs twice, and a layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.act, self.idle = nn.ReLU(), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.second(self.act(self.first(x)))).mean((2, 3))


def activations(model: nn.Module, images: Tensor, names: tuple[str, ...]) -> list[Tensor]:
    kept = []
    handles = [
        model.get_submodule(n).register_forward_hook(lambda _m, _i, out: kept.append(out.clone())) for n in names
    ]
    with torch.no_grad():
        model.eval()(images.float() / 255)
    for handle in handles:
        handle.remove()
    return kept


def test_all_pairs_equal_one_pair_at_a_time() -> None:
    a, b, images = untrained(0, width=4), untrained(1, width=4), pictures(40)
    found = cka_matrix(a, b, images, batch_size=40)
    one, other = (activations(model, images, model.layer_names) for model in (a, b))
    pairs = [[linear_cka(x, y, unbiased=True) for y in other] for x in one]
    torch.testing.assert_close(found.values, torch.tensor(pairs), atol=1e-5, rtol=0)
    assert found.layers_a == a.layer_names == found.layers_b


def test_minibatches_add_up_their_unbiased_estimates() -> None:
    model, images, names = untrained(0, width=4).eval(), pictures(40), ("layer1.0", "layer4.0")
    found = cka_matrix(model, model, images, layers_a=names, layers_b=names, batch_size=10).values
    sums = np.zeros((2, 2))
    for part in images.split(10):
        grams = [(x.flatten(1).double() @ x.flatten(1).double().T).numpy() for x in activations(model, part, names)]
        sums += [[naive_hsic(k, other, True) for other in grams] for k in grams]
    expected = sums / np.sqrt(np.outer(np.diag(sums), np.diag(sums)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_independent_library_agrees() -> None:
    torch_cka = pytest.importorskip("torch_cka", reason="torch-cka is not installed")
    a, b = untrained(0, width=4).double(), untrained(1, width=4).double()  # its sums of float32 are off by 1e-4 here
    images, names = pictures(32).double() / 255, ["stem", "layer1.0.residual", "layer2.0", "layer4.1"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = torch_cka.CKA(a, b, "a", "b", names, names)
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), 16)
        torch.set_default_dtype(torch.float64)
        try:
            peer.compare(loader)
        finally:
            torch.set_default_dtype(torch.float32)
    ours = cka_matrix(a, b, images, layers_a=names, layers_b=names, batch_size=16).values
    torch.testing.assert_close(ours.double(), peer.export()["CKA"], atol=1e-5, rtol=0)


def test_the_streamed_estimate_comes_near_the_exact_one() -> None:
    a, b, images = untrained(0, width=4), untrained(1, width=4), pictures(400)
    exact, small, large = (cka_matrix(a, b, images, batch_size=n).values for n in (400, 10, 100))
    assert (large - exact).abs().max() < (small - exact).abs().max()
    assert (large - exact).abs().max() < 0.05


@pytest.mark.parametrize(("depth", "layers"), [(18, 18), (34, 34), (50, 34)])
def test_odd_and_even_layers_of_every_block_have_names(depth: int, layers: int) -> None:
    model = resnet(depth, width=8)
    found = cka_matrix(model, model, pictures(6), batch_size=6)
    assert found.values.shape == (layers, layers) and found.layers_a == model.layer_names
    assert sum(name.endswith(".residual") for name in found.layers_a) == (layers - 2) // 2
    torch.testing.assert_close(found.values.diagonal(), torch.ones(layers))


def test_a_layer_that_runs_twice_is_there_twice() -> None:
    model = Twice()
    found = cka_matrix(model, model, pictures(12), layers_a=("act", "first"), layers_b=("act", "first"))
    assert found.layers_a == ("act", "act#2", "first")
    one, two = activations(model, pictures(12), ("act",))
    torch.testing.assert_close(found.values[0, 1], linear_cka(one, two, unbiased=True))


def test_models_and_their_modes_are_left_alone() -> None:
    model = untrained(0, width=4).train()
    model.layer1.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    cka_matrix(model, model, pictures(8))
    assert model.training and not model.layer1.training and model.layer2.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_no_activation_outlives_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    import weakref

    outputs, alive = [], []
    real = torch.stack

    def stacked(parts: list[Tensor], *more: object) -> Tensor:
        alive.append(sum(ref() is not None for ref in outputs))
        return real(parts, *more)

    a, b = untrained(0, width=4), untrained(1, width=4)
    for model in (a, b):
        for name in model.layer_names:
            module = model.get_submodule(name)
            module.register_forward_hook(lambda _m, _i, output: outputs.append(weakref.ref(output.untyped_storage())))
    monkeypatch.setattr(torch, "stack", stacked)  # which puts a batch's Gram matrices together
    cka_matrix(a, b, pictures(32), batch_size=8)
    assert len(outputs) == 4 * 36 and max(alive) == 0


def test_fixed_features_and_other_images_stand_beside_layers() -> None:
    model, images = untrained(0, width=4), pictures(24)
    labels = torch.arange(24) % 3
    sources = [
        Source("plain", images, model, ("layer4.1",)),
        Source("mirrored", images.flip(3), model, ("layer4.1",)),
        Source("classes", nn.functional.one_hot(labels).float()),
    ]
    found = similarity(sources, batch_size=24)
    (plain,), (mirrored,) = (activations(model, one, ("layer4.1",)) for one in (images, images.flip(3)))
    assert float(found.between("plain", "mirrored").values) == pytest.approx(
        float(linear_cka(plain, mirrored, unbiased=True)), abs=1e-5
    )
    assert float(found.between("classes", "plain").values) == pytest.approx(
        float(linear_cka(nn.functional.one_hot(labels), plain, unbiased=True)), abs=1e-5
    )


def test_null_is_around_zero_and_bootstrap_around_the_value() -> None:
    a, b, images = untrained(0, width=4), untrained(1, width=4), pictures(120)
    names = ("stem", "layer1.0")
    found = similarity([Source("a", images, a, names), Source("b", images, b, names)], batch_size=12, permutations=40)
    value = found.values()
    assert found.null.shape == (40, 2, 4) and float(found.null.mean(0).abs().max()) < 0.05
    assert value[0, 2] > found.null[:, 0, 2].max()
    drawn = found.bootstrap(100, seed=1)
    assert drawn.shape == (100, 4, 4) and float(drawn[:, 0, 2].std()) > 0
    assert abs(float(drawn[:, 0, 2].mean() - value[0, 2])) < 3 * float(drawn[:, 0, 2].std())
    torch.testing.assert_close(drawn, found.bootstrap(100, seed=1), rtol=0, atol=0)
    with pytest.raises(ValueError, match="minibatches: expected at least 2"):
        similarity([Source("x", draw(8, 3))]).bootstrap()


@pytest.mark.parametrize(("n", "batch_size"), [(10_000, 256), (5, 4), (257, 256), (4, 4), (1000, 1000)])
def test_minibatches_are_of_about_equal_size(n: int, batch_size: int) -> None:
    sizes = batches(n, batch_size)
    assert sum(sizes) == n and max(sizes) - min(sizes) <= 1 and min(sizes) >= 4
    assert max(sizes) <= batch_size or len(sizes) == n // 4


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": pictures(3)}, "images: expected at least 4"),
        ({"batch_size": 3}, "batch_size: expected at least 4"),
        ({"layers_a": ("layer1.9",)}, r"layers: expected one of .*did you mean 'layer1"),
        ({"layers_a": ()}, "layers: expected at least one name"),
        ({"layers_b": ("stem", "stem")}, "layers: expected distinct names"),
        ({"encoder_b": nn.Sequential(nn.Flatten())}, "layers: expected names, for a model that lists none"),
        ({"encoder_b": Twice(), "layers_b": ("idle",)}, "layers: expected layers that run, got 'idle'"),
    ],
)
def test_bad_requests_are_refused(change: dict, says: str) -> None:
    model = untrained(0, width=4)
    with pytest.raises(ValueError, match=says):
        cka_matrix(**{"encoder_a": model, "encoder_b": model, "images": pictures(8)} | change)


def test_low_precision_around_it_changes_nothing() -> None:
    x, y = draw(30, 400), draw(30, 400, 1) + draw(30, 400)
    before = linear_cka(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(linear_cka(x, y), before, rtol=0, atol=0)


def test_a_module_with_two_names_can_be_asked_for_by_either() -> None:
    shared = nn.ReLU()
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), shared, nn.Linear(8, 8), shared)
    found = similarity([Source("x", pictures(8), model, ("4",))])
    assert found.layers["x"] == ("4", "4#2")


class Named(nn.Module):
    """Gives its output under a name."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"features": x.flatten(1)}


class Chosen(nn.Module):
    def forward(self, outputs: dict[str, Tensor]) -> Tensor:
        return outputs["features"]


def test_the_first_of_several_outputs_is_a_layers() -> None:
    recurrent = nn.Sequential(nn.Flatten(), nn.LSTM(768, 5, batch_first=True))
    found = channel_means(recurrent, pictures(8), ("1",))["1"]
    torch.testing.assert_close(found, recurrent(pictures(8).float() / 255)[0].detach())


def test_bad_sources_and_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="sources: expected at least one"):
        similarity([])
    with pytest.raises(ValueError, match="sources: expected distinct names"):
        similarity([Source("x", draw(8, 2)), Source("x", draw(8, 2))])
    with pytest.raises(ValueError, match="sources: expected as many inputs in each"):
        similarity([Source("x", draw(8, 2)), Source("y", draw(9, 2))])
    with pytest.raises(ValueError, match=r"layer '0': expected an output of one tensor \[N, …\], got dict"):
        similarity([Source("x", pictures(8), nn.Sequential(Named(), Chosen()), ("0",))])
    bad = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    nn.init.constant_(bad[1].weight, float("inf"))
    with pytest.raises(ValueError, match=r"layer '1' of 'x': .*expected finite values"):
        similarity([Source("x", pictures(8), bad, ("1",))])
