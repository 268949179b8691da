import dataclasses
import math
import re
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from sslnb import cli, data
from sslnb.data.images import ImageSet
from sslnb.encoders.load import read_checkpoint
from sslnb.encoders.resnet import resnet
from sslnb.features.extract import extract
from sslnb.features.nearest import knn_predict
from sslnb.features.scores import top1
from sslnb.metrics.labelfree import feature_deviation, rankme
from sslnb.objectives.registry import OBJECTIVES
from sslnb.objectives.two_views import TwoViews
from sslnb.training import loop as module
from sslnb.training import monitor
from sslnb.training.loop import PretrainConfig, pretrain
from sslnb.training.monitor import COLLAPSED, Look, Monitor, ridge_accuracy

CPU = torch.device("cpu")
tried = settings(deadline=None, max_examples=25)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def toy(n: int = 40, *, seed: int = 0, labelled: bool = True, classes: str = "abcd") -> ImageSet:
    """Images of four classes, each a pattern under noise."""
    patterns = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    labels = torch.arange(n) % 4
    noise = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    images = (255 * (0.6 * patterns[labels] + 0.4 * noise)).to(torch.uint8)
    return ImageSet(images, labels if labelled else torch.full((n,), -1), tuple(classes), None, "toy")


# Effective rank


def test_features_on_one_line_have_rank_1_and_orthogonal_ones_as_many_as_there_are():
    line = normal(50, 1) @ normal(1, 8, seed=1)
    assert rankme(line) == pytest.approx(1, abs=1e-4)
    orthogonal = torch.linalg.qr(normal(50, 8)).Q
    assert rankme(orthogonal) == pytest.approx(8, abs=1e-4)
    assert rankme(100 * orthogonal) == pytest.approx(8, abs=1e-4)
    assert rankme(torch.eye(5, 8)) == pytest.approx(5, abs=1e-4)
    assert rankme(torch.ones(6, 4)) == pytest.approx(1, abs=1e-4)
    assert rankme(torch.zeros(6, 4)) == pytest.approx(1, abs=1e-4)


def test_the_effective_rank_is_the_entropy_of_the_singular_values_shares():
    values = np.array([4.0, 2.0, 1.0, 1.0])
    matrix = torch.linalg.qr(normal(20, 4)).Q * torch.tensor(values, dtype=torch.float32)
    shares = values / values.sum()
    assert rankme(matrix) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-5)


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 8))
@tried
def test_the_effective_rank_is_between_1_and_the_smaller_side_whatever_the_order_and_rotation(seed, n, d):
    features = normal(n, d, seed=seed)
    rank = rankme(features)
    assert 1 - 1e-6 <= rank <= min(n, d) + 1e-6
    rotation = torch.linalg.qr(normal(d, d, seed=seed + 1)).Q
    assert rankme(features.flip(0) @ rotation) == pytest.approx(rank, rel=1e-4)


# Deviation


def test_the_deviation_is_0_for_constant_features_and_1_for_even_ones():
    assert feature_deviation(torch.ones(20, 6)) == pytest.approx(0, abs=1e-7)
    assert feature_deviation(normal(1, 6).expand(20, 6) * torch.rand(20, 1)) == pytest.approx(0, abs=1e-6)
    assert feature_deviation(torch.zeros(20, 6)) == 0
    for d in (8, 64, 512):
        assert feature_deviation(normal(4000, d)) == pytest.approx(1, abs=0.03)


@given(st.integers(0, 2**31), st.floats(0.01, 100))
@tried
def test_the_deviation_ignores_lengths_and_is_at_most_1(seed, scale):
    features = normal(12, 5, seed=seed)
    deviation = feature_deviation(features)
    assert 0 <= deviation <= 1 + 1e-6
    lengths = scale * (0.1 + torch.rand(12, 1, generator=torch.Generator().manual_seed(seed)))
    assert feature_deviation(lengths * features) == pytest.approx(deviation, abs=1e-6)


@pytest.mark.parametrize("measure", [rankme, feature_deviation])
def test_measures_refuse_other_shapes(measure):
    with pytest.raises(ValueError, match=r"h: expected shape \[N, d\], got shape \[5\]"):
        measure(torch.ones(5))


def test_the_effective_rank_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match=r"h: expected finite values, got 1 non-finite, the first at \(1, 0\)"):
        rankme(torch.tensor([[1.0, 2.0], [math.nan, 0.0]]))


# The linear classifier


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("penalty", [1e-3, 1e-2, 1.0])
def test_the_linear_accuracy_is_that_of_scikit_learns_ridge_on_standardized_features(classes, penalty):
    centres = 0.7 * normal(classes, 10, seed=classes)
    labels, test_labels = torch.arange(150) % classes, torch.arange(90) % classes
    scales = torch.logspace(-2, 2, 10)
    train = (centres[labels] + normal(150, 10, seed=1)) * scales + 3 * scales
    test = (centres[test_labels] + normal(90, 10, seed=2)) * scales + 3 * scales
    scaler = StandardScaler().fit(train.double().numpy())
    ridge = RidgeClassifier(alpha=penalty * len(train))  # ours is a share of the covariance, theirs of the sum
    ridge.fit(scaler.transform(train.double().numpy()), labels.numpy())
    expected = ridge.score(scaler.transform(test.double().numpy()), test_labels.numpy())
    assert ridge_accuracy(train, labels, test, test_labels, penalty) == pytest.approx(expected)
    assert 1 / classes < expected < 1


def test_the_linear_accuracy_copes_with_constant_and_repeated_features():
    labels = torch.arange(60) % 3
    informative = F.one_hot(labels).float() + 0.1 * normal(60, 3)
    features = torch.cat([informative, informative, torch.full((60, 2), 5.0), torch.zeros(60, 1)], 1)
    assert ridge_accuracy(features, labels, features, labels) == 1
    alone = torch.full((60, 4), 2.5)
    assert ridge_accuracy(alone, labels, alone, labels) == pytest.approx(1 / 3)
    few = normal(4, 50)  # fewer images than features
    assert ridge_accuracy(few, torch.arange(4), few, torch.arange(4)) == 1


# A look


@pytest.mark.parametrize(
    ("deviation", "collapsed"),
    [(0.0, True), (COLLAPSED - 1e-6, True), (COLLAPSED, False), (1.0, False), (math.nan, True)],
)
def test_features_without_deviation_have_collapsed(deviation, collapsed):
    assert Look(0.5, 0.5, 3.0, deviation).collapsed is collapsed


def encoder(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return resnet(18, width=4)


def test_a_look_is_knn_ridge_rank_and_deviation_of_the_features():
    train, held_out = toy(), toy(20, seed=1)
    look = Monitor(train, held_out).look(encoder(), "float32")
    features, others = extract(encoder(), train), extract(encoder(), held_out)
    assert look.knn == top1(knn_predict(features, train.labels, others, k=20), held_out.labels)
    assert look.probe == ridge_accuracy(features, train.labels, others, held_out.labels)
    assert (look.rankme, look.deviation) == (rankme(features), feature_deviation(features))
    assert not look.collapsed  # an encoder that was never trained has not


def test_a_look_leaves_the_encoder_as_it_was():
    seen = encoder().train()
    before = {key: value.clone() for key, value in seen.state_dict().items()}
    Monitor(toy(), toy(seed=1)).look(seen, "float32")
    assert seen.training and all(torch.equal(value, before[key]) for key, value in seen.state_dict().items())


def test_without_labels_or_held_out_images_there_are_no_accuracies():
    for train, held_out in (
        (toy(), None),
        (toy(labelled=False), None),
        (toy(labelled=False), toy(seed=1)),
        (toy(), toy(seed=1, labelled=False)),
    ):
        look = Monitor(train, held_out).look(encoder(), "float32")
        assert math.isnan(look.knn) and math.isnan(look.probe)
        assert look.rankme >= 1 and look.deviation > 0 and not look.collapsed


def test_features_that_are_not_finite_are_seen_as_collapse():
    broken = encoder()
    with torch.no_grad():
        broken.stem[0].weight[0] = math.nan
    look = Monitor(toy(), toy(seed=1)).look(broken, "float32")
    assert all(math.isnan(value) for value in dataclasses.astuple(look)) and look.collapsed


def test_held_out_images_of_other_classes_are_refused():
    with pytest.raises(ValueError, match=r"held_out: expected the classes of the training images, got .*'x'"):
        Monitor(toy(), toy(classes="abcx"))


def test_a_monitor_looks_at_a_stratified_part_of_large_sets(monkeypatch):
    monkeypatch.setattr(monitor, "BANK", 12)
    monkeypatch.setattr(monitor, "HELD_OUT", 8)
    small = Monitor(toy(40), toy(36, seed=1))
    assert small.train.labels.bincount().tolist() == [3] * 4 and small.held_out.labels.bincount().tolist() == [2] * 4
    monkeypatch.setattr(monitor, "BANK", 2)  # fewer than classes: one of each
    assert len(Monitor(toy(40)).train) == 4
    assert len(Monitor(toy(labelled=False)).train) == 2


# What a run does with it


class Attracting(TwoViews):
    """All pairs of a batch attract each other, whatever image they are of: the optimum is a single point."""

    name, label, compares, equation, learning_rate, weight_decay = "attracting", "Attracting", "", "", 2.0, 0.0

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        a, b = (F.normalize(self.encoder(view).float(), dim=1) for view in views)
        return -(a @ b.T).mean()


class Exploding(TwoViews):
    """A loss that is worth more the larger the weights are."""

    name, label, compares, equation, learning_rate, weight_decay = "exploding", "Exploding", "", "", 1.0, 0.0

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        return -sum(p.double().pow(4).sum() for p in self.parameters()).float() + 0 * self.encoder(views[0]).sum()


@pytest.fixture
def bad_objectives(monkeypatch):
    for kind in (Attracting, Exploding):
        monkeypatch.setitem(OBJECTIVES, kind.name, kind)
    monkeypatch.setattr(module, "LOOKING", math.inf)  # a look after every epoch


def run(objective: str, checkpoint=None, *, epochs: int = 40, **options: object) -> module.Pretrained:
    config = PretrainConfig(
        objective, width=4, epochs=epochs, batch_size=8, precision="float32", warmup=0.0, schedule="constant"
    )
    return pretrain(config, toy(), held_out=toy(20, seed=1), checkpoint=checkpoint, on=CPU, **options)


@pytest.mark.parametrize(
    ("objective", "stop", "reason"),
    [
        ("attracting", 5, r"the features collapsed: their deviation is 0\.0\d+ of an even spread"),
        ("exploding", 1, "the (features|loss or the weights) stopped being finite"),
    ],
)
def test_a_run_that_goes_wrong_stops_early_says_why_and_keeps_its_checkpoint(
    bad_objectives, tmp_path, objective, stop, reason
):
    path, log = tmp_path / "run.pt", tmp_path / "run.jsonl"
    started = run(objective, path, stop_after=stop)
    assert started.converged and started.reason is None
    before = path.read_bytes()
    ended = run(objective, path, log=log)
    assert not ended.converged and not ended.reused
    assert re.fullmatch(reason, ended.reason)
    assert len(ended.history["loss"]) < 40
    assert path.read_bytes() == before and read_checkpoint(path)["step"] == stop
    assert log.read_text().splitlines()[-1] == f'{{"stopped": "{ended.reason}"}}'
    if objective == "attracting":
        assert ended.history["deviation"][-1] < COLLAPSED and math.isfinite(ended.history["loss"][-1])


def test_a_sound_run_is_not_taken_for_a_collapsed_one(bad_objectives):
    for name in ("simsiam", "byol"):
        config = PretrainConfig(name, width=4, epochs=4, batch_size=8, precision="float32")
        ended = pretrain(config, toy(), held_out=toy(20, seed=1), on=CPU)
        assert ended.converged and min(ended.history["deviation"]) > 2 * COLLAPSED


# The time that looking takes


def timed_run(
    monkeypatch: pytest.MonkeyPatch, *, epoch: float, look: float, epochs: int, labelled: bool = True
) -> dict[str, list[float]]:
    """History of a run on a clock that the steps and the looks alone move; no network is trained."""
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: clock.now))

    def train_step(self, index):
        clock.now += epoch
        self.step += 1

    def see(self, encoder, precision):
        clock.now += look
        return Look(0.5, 0.5, 4.0, 0.5)

    monkeypatch.setattr(module.TrainingRun, "train_step", train_step)
    monkeypatch.setattr(Monitor, "look", see)
    config = PretrainConfig("simclr", width=4, epochs=epochs, batch_size=40, precision="float32")
    return pretrain(config, toy(labelled=labelled), held_out=toy(20, seed=1), on=CPU).history


@pytest.mark.parametrize(("epoch", "look"), [(10.0, 1.0), (1.0, 1.0), (100.0, 0.5), (3.0, 20.0), (1.0, 0.0)])
def test_looks_never_take_more_than_their_share_of_the_time(monkeypatch, epoch, look):
    epochs = 120
    history = timed_run(monkeypatch, epoch=epoch, look=look, epochs=epochs)
    looked = [i for i, knn in enumerate(history["knn"]) if not math.isnan(knn)]
    assert looked[0] == 0 and looked[-1] == epochs - 1  # the first and the last are always looked at
    assert history["looking"] == pytest.approx([look if i in looked else 0.0 for i in range(epochs)])
    assert history["seconds"] == pytest.approx([epoch + spent for spent in history["looking"]])
    for i in looked[1:-1]:
        assert sum(history["looking"][: i + 1]) <= module.LOOKING * sum(history["seconds"][: i + 1]) + 1e-9
    affordable = module.LOOKING * epochs * epoch / look if look else epochs
    assert len(looked) >= min(epochs, 0.8 * affordable)  # and what there is of it is used
    if look / epoch <= 0.9 * module.LOOKING:
        assert len(looked) > 0.9 * epochs


def test_a_run_of_one_epoch_is_looked_at_once(monkeypatch):
    history = timed_run(monkeypatch, epoch=1.0, look=5.0, epochs=1)
    assert history["knn"] == [0.5] and history["looking"] == [5.0] and history["seconds"] == [6.0]


# The command


def test_pretraining_never_opens_the_test_split(tmp_path, monkeypatch):
    opened, load = [], data.load

    def watched(name: str, split: str = "train", **options: object) -> ImageSet:
        opened.append(split)
        assert split != "test"
        return load(name, split, **options)

    monkeypatch.setattr(data, "load", watched)
    arguments = ["pretrain", "--dataset", "digit-scenes", "--size", "8", "--limit", "40", "--width", "4"]
    assert cli.main([*arguments, "--epochs", "1", "--batch-size", "20", "--out", str(tmp_path / "run.pt")]) == 0
    assert sorted(opened) == ["train", "val"]
    history = read_checkpoint(tmp_path / "run.pt")["history"]
    assert 0 <= history["knn"][0] <= 1 and 0 <= history["probe"][0] <= 1
