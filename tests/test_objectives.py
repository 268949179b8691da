import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import sslnb
from sslnb import objectives
from sslnb.encoders import resnet
from sslnb.objectives import OBJECTIVES, Objective, nt_xent
from sslnb.objectives.base import projection_head

tried = settings(deadline=None, max_examples=25)
VIEWS = {"crop_scale": (0.5, 1.0), "flip": 0.0}


def pair(seed: int, n: int, d: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    first = torch.randn(n, d, generator=g)
    return first, first + torch.randn(n, d, generator=g)


pairs = st.builds(pair, st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 9))
temperatures = st.floats(0.05, 2)


def naive_nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """Equation 1 of Chen et al. 2020, one pair of embeddings at a time, in float64."""
    z = [v / v.norm() for v in torch.cat([z1, z2]).double()]
    n, losses = len(z1), []
    for i in range(2 * n):
        partner = i + n if i < n else i - n
        terms = [torch.exp(z[i] @ z[k] / temperature) for k in range(2 * n) if k != i]
        losses.append(-torch.log(torch.exp(z[i] @ z[partner] / temperature) / sum(terms)))
    return sum(losses) / (2 * n)


@given(pairs, temperatures)
@tried
def test_nt_xent_and_its_gradients_equal_the_naive_loop(views, temperature):
    ours = [v.clone().requires_grad_() for v in views]
    theirs = [v.double().requires_grad_() for v in views]
    loss, expected = nt_xent(*ours, temperature), naive_nt_xent(*theirs, temperature)
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    loss.backward()
    expected.backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad.double(), b.grad, atol=1e-4, rtol=1e-3)


@given(pairs, temperatures, st.integers(0, 2**31))
@tried
def test_nt_xent_ignores_length_rotation_order_of_views_and_of_pairs(views, temperature, seed):
    z1, z2 = views
    g = torch.Generator().manual_seed(seed)
    loss = nt_xent(z1, z2, temperature)
    order = torch.randperm(len(z1), generator=g)
    rotation = torch.linalg.qr(torch.randn(z1.shape[1], z1.shape[1], generator=g)).Q
    lengths = 0.1 + 10 * torch.rand(2, len(z1), 1, generator=g)
    for changed in (
        (z2, z1),
        (z1[order], z2[order]),
        (z1 @ rotation, z2 @ rotation),
        (lengths[0] * z1, lengths[1] * z2),
    ):
        torch.testing.assert_close(nt_xent(*changed, temperature), loss, atol=1e-4, rtol=1e-4)


def test_one_pair_has_no_loss():
    z1, z2 = pair(0, 1, 8)
    assert float(nt_xent(z1, z2)) == 0


@pytest.mark.parametrize("n", [2, 7, 64])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_collapsed_embeddings_leave_the_choice_among_all_others(n, temperature):
    z = torch.ones(n, 16)
    assert float(nt_xent(z, 3 * z, temperature)) == pytest.approx(math.log(2 * n - 1), abs=1e-5)
    assert float(nt_xent(0 * z, 0 * z, temperature)) == pytest.approx(math.log(2 * n - 1), abs=1e-5)


def test_identical_orthogonal_views_have_the_loss_of_the_formula():
    z, t = torch.eye(4), 0.5
    expected = -math.log(math.exp(1 / t) / (math.exp(1 / t) + 6))
    assert float(nt_xent(z, z, t)) == pytest.approx(expected, abs=1e-5)
    swapped = nt_xent(z, z.roll(1, 0), t)  # the partner is now a stranger, and a stranger looks like oneself
    assert float(swapped) == pytest.approx(-math.log(1 / (math.exp(1 / t) + 6)), abs=1e-5)


def test_zero_vectors_give_finite_loss_and_gradients():
    z1, z2 = (v.requires_grad_() for v in pair(0, 5, 8))
    with torch.no_grad():
        z1[2] = z2[2] = z2[4] = 0
    loss = nt_xent(z1, z2)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z1.grad).all() and torch.isfinite(z2.grad).all()


def test_nt_xent_computes_in_float32_whatever_comes_in_and_around():
    z1, z2 = pair(1, 64, 32)
    exact = naive_nt_xent(z1, z2, 0.1)
    low = nt_xent(z1.bfloat16(), z2.bfloat16(), 0.1)
    assert low.dtype == torch.float32 and float(low) == pytest.approx(float(exact), rel=0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = nt_xent(z1, z2, 0.1)
    assert float(inside) == pytest.approx(float(exact), abs=1e-5)


@pytest.mark.parametrize(
    ("z1", "z2", "temperature", "message"),
    [
        (torch.ones(4, 8), torch.ones(4, 8), 0.0, "temperature: expected a positive value, got 0"),
        (torch.ones(4, 8), torch.ones(4, 8), -1.0, "temperature: expected a positive value"),
        (torch.ones(4, 8), torch.ones(4, 8), math.nan, "temperature: expected a positive value"),
        (torch.ones(4, 8), torch.ones(3, 8), 0.5, r"z2: expected shape \[4, 8\], got shape \[3, 8\]"),
        (torch.ones(4, 8), torch.ones(4, 7), 0.5, r"z2: expected shape \[4, 8\]"),
        (torch.ones(4), torch.ones(4), 0.5, r"z1: expected shape \[N, d\]"),
        (torch.ones(4, 2, 2), torch.ones(4, 2, 2), 0.5, r"z1: expected shape \[N, d\]"),
        (torch.ones(0, 8), torch.ones(0, 8), 0.5, "z1: expected at least one pair"),
    ],
)
def test_nt_xent_refuses_what_it_can_not_use(z1, z2, temperature, message):
    with pytest.raises(ValueError, match=message):
        nt_xent(z1, z2, temperature)


# Objectives


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    images = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return images, torch.arange(8) % 4


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_gives_one_finite_loss_that_reaches_its_parameters(name, batch):
    torch.manual_seed(0)
    images, labels = batch
    objective = objectives.get(name)(resnet(18, width=4), 4, **VIEWS).train()
    views = objective.views(images, torch.Generator().manual_seed(0))
    assert all(view.shape[1:] == images.shape[1:] and view.is_floating_point() for view in views)
    loss = objective(views, labels)
    assert loss.shape == () and loss.dtype == torch.float32 and torch.isfinite(loss)
    loss.backward()
    trained = [p for p in objective.parameters() if p.requires_grad]
    assert sum(p.grad is not None and bool(p.grad.any()) for p in trained) > 0.9 * len(trained)
    again = objective.views(images, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))
    objective.after_step(0.5)
    assert objective.learning_rate > 0 and objective.weight_decay >= 0


def test_simclr_contrasts_the_projections_of_its_two_views(batch):
    torch.manual_seed(0)
    simclr = objectives.get("simclr")(resnet(18, width=4), 4, temperature=0.2, projection_dim=6, **VIEWS).eval()
    views = simclr.views(batch[0], None)
    assert len(views) == 2 and not torch.equal(*views)
    z = [simclr.head(simclr.encoder(view)) for view in views]
    assert z[0].shape == (8, 6)
    torch.testing.assert_close(simclr(views, batch[1]), nt_xent(*z, 0.2))


def test_simclr_jitters_by_the_papers_strengths():
    view = objectives.get("simclr")(resnet(18, width=4), 4, jitter_strength=0.5, **VIEWS).view
    assert view.jitter == pytest.approx((0.4, 0.4, 0.4, 0.1)) and view.greyscale == 0.2
    assert view.scale == (0.5, 1.0) and view.flip == 0


def test_supervised_is_cross_entropy_with_the_labels_and_wants_two_classes(batch):
    torch.manual_seed(0)
    supervised = objectives.get("supervised")(resnet(18, width=4), 4, **VIEWS).eval()
    (view,) = supervised.views(batch[0], None)
    expected = F.cross_entropy(supervised.head(supervised.encoder(view)), batch[1])
    torch.testing.assert_close(supervised([view], batch[1]), expected)
    assert supervised.uses_labels and not objectives.get("simclr").uses_labels
    with pytest.raises(ValueError, match="classes: expected at least 2"):
        objectives.get("supervised")(resnet(18, width=4), 1, **VIEWS)


def test_the_projection_head_is_linear_relu_linear():
    kinds = [type(layer).__name__ for layer in projection_head(8, 16, 4)]
    assert kinds == ["Linear", "ReLU", "Linear"]
    assert projection_head(8, 16, 4)(torch.ones(2, 8)).shape == (2, 4)


def test_an_objective_without_views_or_loss_says_what_to_define():
    bare = Objective(resnet(18, width=4), 2, **VIEWS)
    with pytest.raises(TypeError, match=r"Objective must define views\(images, generator\)"):
        bare.views(torch.zeros(1), None)
    with pytest.raises(TypeError, match=r"Objective must define forward\(views, labels\)"):
        bare([], torch.zeros(1))


@pytest.mark.parametrize(("wrong", "near"), [("simclrr", "simclr"), ("supervized", "supervised")])
def test_an_unknown_objective_names_the_known_and_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"objective: expected one of .*got '{wrong}'; did you mean '{near}"):
        objectives.get(wrong)


NEW_OBJECTIVE = """
from sslnb.objectives.base import Objective

__all__ = ["Constant", "zero_loss"]


def zero_loss(z):
    return 0 * z.sum()


class Constant(Objective):
    name = "constant"
    learning_rate = 0.1

    def __init__(self, encoder, classes, *, offset=1.0, **views):
        super().__init__(encoder, classes, **views)
        self.offset = offset

    def views(self, images, generator):
        return [images.float() / 255]

    def forward(self, views, labels):
        return zero_loss(self.encoder(views[0])) + self.offset
"""

USE_IT = """
import torch
from sslnb.data import ImageSet
from sslnb.objectives import OBJECTIVES, zero_loss
from sslnb.pretrain import PretrainConfig, pretrain

images = ImageSet(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.full((4,), -1), ("a",), None, "toy")
config = PretrainConfig("constant", width=4, epochs=1, batch_size=4, precision="float32", options={"offset": 2.5})
print(sorted(OBJECTIVES), pretrain(config, images).history["loss"])
"""


def test_a_file_dropped_into_the_package_is_an_objective_without_any_other_edit(tmp_path):
    shutil.copytree(Path(sslnb.__file__).parent, tmp_path / "sslnb", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "sslnb" / "objectives" / "constant.py").write_text(NEW_OBJECTIVE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", USE_IT], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("]")[0].strip() + "]" == str(sorted([*OBJECTIVES, "constant"]))
    assert done.stdout.strip().endswith("[2.5]")
