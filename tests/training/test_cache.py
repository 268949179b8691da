import dataclasses

import numpy as np
import pytest
import torch

from sslnb.core.artifacts import import_closure
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import weights_checksum
from sslnb.encoders.load import torchvision_encoder
from sslnb.encoders.resnet import adopt, resnet
from sslnb.objectives.registry import OBJECTIVES
from sslnb.training import cache, optim
from sslnb.training.cache import cached_pretrain, encoder_artifact
from sslnb.training.loop import PretrainConfig, pretrain

CPU = torch.device("cpu")


def toy(seed: int = 0) -> ImageSet:
    """43 noisy images [43,3,8,8] of four classes."""
    images = torch.randint(256, (43, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return ImageSet(images, torch.arange(43) % 4, tuple("abcd"), None, "toy")


def config(**changes: object) -> PretrainConfig:
    """15 steps: three epochs of five."""
    tiny = {"objective": "simclr", "width": 4, "epochs": 3, "batch_size": 8, "precision": "float32"}
    return PretrainConfig(**{**tiny, **changes})


def test_an_artifact_changes_with_configuration_data_and_code(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path))
    path = encoder_artifact(config(), toy(), CPU)
    assert path.is_relative_to(tmp_path) and path == encoder_artifact(config(), toy(), CPU)
    others = [
        config(**{name: value}) for name, value in (("seed", 1), ("epochs", 4), ("options", {"temperature": 1.0}))
    ]
    keys = {encoder_artifact(other, toy(), CPU) for other in others}
    keys |= {encoder_artifact(config(), toy(seed=1), CPU), encoder_artifact(config(objective="supervised"), toy(), CPU)}
    assert len(keys | {path}) == 6
    resolved = dataclasses.replace(config(), learning_rate=OBJECTIVES["simclr"].learning_rate)
    assert encoder_artifact(resolved, toy(), CPU) == path  # the same run, however it is asked for
    monkeypatch.setattr(cache.artifacts, "code_version", lambda *modules: "another")
    assert encoder_artifact(config(), toy(), CPU) != path


def test_an_artifact_depends_on_every_file_that_its_training_takes_code_from():
    shared = {
        "sslnb.training.loop",
        "sslnb.training.monitor",
        "sslnb.training.optim",
        "sslnb.views.augment",
        "sslnb.metrics.attacks",
    }
    own = {"byol": {"byol", "simsiam"}, "infomin_color": {"cmc", "infomin", "moco"}, "simclr": {"simclr"}}
    for name, files in own.items():
        closure = import_closure("sslnb.training.loop", OBJECTIVES[name].__module__)
        assert closure >= shared - {"sslnb.metrics.attacks"}
        methods = {kind.__module__ for kind in OBJECTIVES.values()}
        assert closure & methods == {f"sslnb.objectives.{file}" for file in files}
    assert shared <= import_closure("sslnb.training.loop", OBJECTIVES["supervised"].__module__)


def test_the_shared_cache_trains_once(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path))
    first, second = (cached_pretrain(config(epochs=1), toy(), CPU) for _ in range(2))
    assert (first.reused, second.reused) == (False, True)
    assert weights_checksum(first.encoder) == weights_checksum(second.encoder)


def test_a_run_of_so_many_steps_is_that_of_its_epochs_cut_short_and_is_looked_at_when_it_ends():
    whole = pretrain(config(schedule="constant", warmup=0.0), toy(), on=CPU, stop_after=7)
    short = pretrain(config(schedule="constant", warmup=0.0, steps=7), toy(), on=CPU)
    assert weights_checksum(whole.encoder) == weights_checksum(short.encoder)
    assert len(short.history["loss"]) == 2 and np.isfinite(short.history["deviation"][-1])
    rest = pretrain(config(schedule="constant", warmup=0.0, steps=6), toy(), on=CPU).history["loss"]
    assert rest[1] != short.history["loss"][1] and 0.5 < rest[1] / short.history["loss"][1] < 2  # a mean over steps


def test_the_last_step_of_a_schedule_is_the_runs(monkeypatch):
    seen = []
    plain = optim.SCHEDULES["cuts"]
    monkeypatch.setitem(optim.SCHEDULES, "cuts", lambda *given: seen.append(plain(*given)) or seen[-1])
    pretrain(config(schedule="cuts", warmup=0.0, steps=10), toy(), on=CPU)
    assert seen == pytest.approx([0.1 ** (step // 2) for step in range(10)])


def test_a_run_can_begin_from_given_weights_and_is_then_another_run(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path))
    given = cached_pretrain(config(objective="supervised"), toy(), CPU).encoder
    plain, begun = (pretrain(config(learning_rate=0.0), toy(), on=CPU, initial=start) for start in (None, given))
    for name, weight in begun.encoder.named_parameters():
        assert torch.equal(weight, given.get_parameter(name)), name
    assert weights_checksum(plain.encoder) != weights_checksum(begun.encoder)
    assert encoder_artifact(config(), toy(), CPU, given) != encoder_artifact(config(), toy(), CPU)
    path = tmp_path / "run.pt"
    pretrain(config(), toy(), on=CPU, initial=given, checkpoint=path, stop_after=3)
    with pytest.raises(ValueError, match="initial="):
        pretrain(config(), toy(), on=CPU, checkpoint=path)


@pytest.mark.parametrize("depth", [18, 50])
def test_the_weights_of_torchvisions_resnets_give_the_same_features(depth):
    theirs = torchvision_encoder(f"resnet{depth}", pretrained=False).eval()
    ours = adopt(resnet(depth, stem="imagenet"), theirs).eval()
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.embed(x).flatten(1), theirs.embed(x), atol=1e-4, rtol=1e-4)


def test_only_the_first_convolution_may_differ_from_what_is_given():
    given = resnet(18, width=8, stem="imagenet")
    own = resnet(18, width=8, stem="cifar")
    first = own.stem[0].weight.clone()
    adopt(own, given)
    assert torch.equal(own.stem[0].weight, first)
    assert torch.equal(own.layer4[1].residual[0].weight, given.layer4[1].residual[0].weight)
    with pytest.raises(ValueError, match=r"source: expected stem\.1\.weight of shape"):
        adopt(resnet(18, width=4), given)
    with pytest.raises(ValueError, match="source: expected the"):
        adopt(resnet(34, width=8), given)
