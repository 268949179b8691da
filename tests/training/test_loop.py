import dataclasses
import errno
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import sslnb
from sslnb.core.seeds import batches_of, seeded
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import weights_checksum
from sslnb.encoders.load import read_checkpoint, read_encoder, save_encoder
from sslnb.features.extract import extract
from sslnb.objectives.registry import OBJECTIVES
from sslnb.training import loop as module
from sslnb.training import optim
from sslnb.training.loop import HISTORY, PretrainConfig, Pretrained, pretrain
from sslnb.training.optim import LEARNING_RATES, cosine_with_warmup

CPU = torch.device("cpu")
TIMED = {"epoch_seconds", *HISTORY} - {"loss"}


def toy(n: int = 43, *, labelled: bool = True, seed: int = 0) -> ImageSet:
    """Images [n,3,8,8] of four classes, each a pattern under noise."""
    patterns = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    labels = torch.arange(n) % 4
    noise = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    images = (255 * (0.6 * patterns[labels] + 0.4 * noise)).to(torch.uint8)
    return ImageSet(images, labels if labelled else torch.full((n,), -1), tuple("abcd"), None, "toy")


def config(**changes: object) -> PretrainConfig:
    """15 steps: three epochs of five, the last three images of each left out."""
    tiny = {"objective": "simclr", "width": 4, "epochs": 3, "batch_size": 8, "precision": "float32"}
    return PretrainConfig(**{**tiny, **changes})


def run(checkpoint: Path | None = None, images: ImageSet | None = None, stop_after: int | None = None, **changes):
    return pretrain(config(**changes), images or toy(), checkpoint=checkpoint, on=CPU, stop_after=stop_after)


def same(a: object, b: object) -> bool:
    """Whether two checkpoints hold the same bits, apart from times and from what was looked at where time allowed."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k not in TIMED)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[Pretrained, Path]:
    path = tmp_path_factory.mktemp("uninterrupted") / "simclr.pt"
    return run(path), path


def assert_ends_the_same(resumed: Pretrained, path: Path, uninterrupted: tuple[Pretrained, Path]) -> None:
    assert weights_checksum(resumed.encoder) == weights_checksum(uninterrupted[0].encoder)
    assert resumed.history["loss"] == uninterrupted[0].history["loss"]
    assert same(read_checkpoint(path), read_checkpoint(uninterrupted[1]))  # optimizer and heads too


# Resuming


@pytest.mark.parametrize("stops", [(1,), (5,), (7,), (2, 3, 9), (14,)])
def test_a_stopped_run_resumes_to_the_bit_identical_result(tmp_path, uninterrupted, stops):
    path, done = tmp_path / "simclr.pt", 0
    for stop in stops:
        run(path, stop_after=stop)
        done += stop
        assert read_checkpoint(path)["step"] == done
    resumed = run(path)
    assert not resumed.reused and resumed.converged and not resumed.encoder.training
    assert_ends_the_same(resumed, path, uninterrupted)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_every_objective_resumes_to_the_bit_identical_result(tmp_path, objective):
    """Queues, banks, centres, prototypes and momentum encoders included; six steps, stopped within an epoch."""
    same_way = {"objective": objective, "epochs": 2, "images": toy(26)}
    whole = run(tmp_path / "whole.pt", **same_way)
    stopped = run(tmp_path / "parts.pt", stop_after=4, **same_way)
    assert weights_checksum(stopped.encoder) != weights_checksum(whole.encoder)
    resumed = run(tmp_path / "parts.pt", **same_way)
    assert weights_checksum(resumed.encoder) == weights_checksum(whole.encoder)
    assert resumed.history["loss"] == whole.history["loss"] and resumed.converged
    states = [read_checkpoint(tmp_path / f"{name}.pt") for name in ("whole", "parts")]
    assert same(*states)


def test_a_supervised_run_in_bf16_resumes_to_the_bit_identical_result(tmp_path):
    same_way = {"objective": "supervised", "precision": "bf16", "epochs": 2}
    whole = run(**same_way)
    run(tmp_path / "s.pt", stop_after=6, **same_way)
    resumed = run(tmp_path / "s.pt", **same_way)
    assert weights_checksum(resumed.encoder) == weights_checksum(whole.encoder)
    assert resumed.history["loss"] == whole.history["loss"]


DYING = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(int(sys.argv[3]))
import test_loop as tests
from sslnb.training import loop as module

module.SAVE_EVERY_S = -1.0  # after every step
whole, step, calls = torch.save, module.TrainingRun.train_step, {"save": 0, "step": 0}

def count(what):
    calls[what] += 1
    return sys.argv[2] == what and calls[what] == 8

def save(state, file):
    if count("save"):
        Path(file).write_bytes(b"half of a checkpoint")
        os.kill(os.getpid(), signal.SIGKILL)
    whole(state, file)

def train_step(self, index):
    if count("step"):
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, index)

torch.save, module.TrainingRun.train_step = save, train_step
tests.run(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("during", ["step", "save"])
def test_a_killed_process_leaves_a_whole_checkpoint_and_resumes_bit_identically(tmp_path, uninterrupted, during):
    path = tmp_path / "simclr.pt"
    places = [str(Path(sslnb.__file__).parents[1]), str(Path(__file__).parent)]
    command = [sys.executable, "-c", DYING, str(path), during, str(torch.get_num_threads())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    died = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert read_checkpoint(path)["step"] == 7
    assert_ends_the_same(run(path), path, uninterrupted)


def test_a_checkpoint_holds_everything_that_the_objective_remembers(tmp_path):
    remembered = {"moco": {"slow", "queue", "next"}, "dino": {"slow", "center"}, "swav": {"prototypes"}}
    remembered |= {"pirl": {"bank"}, "cmc": {"banks"}, "byol": {"slow"}}
    for objective, parts in remembered.items():
        run(tmp_path / f"{objective}.pt", objective=objective, stop_after=1)
        heads = read_checkpoint(tmp_path / f"{objective}.pt")["heads"]
        assert parts <= {name.split(".")[0] for name in heads}
        assert all(torch.isfinite(value).all() for value in heads.values())


def test_a_run_has_one_entry_per_epoch_of_everything_it_records():
    done = pretrain(config(epochs=2), toy(), held_out=toy(20, seed=1), on=CPU)
    assert tuple(done.history) == HISTORY and {len(values) for values in done.history.values()} == {2}
    assert done.converged and done.reason is None
    assert all(0 <= done.history[name][0] <= 1 for name in ("knn", "probe"))


def test_a_complete_checkpoint_is_given_back_and_not_rewritten(uninterrupted, monkeypatch):
    whole, path = uninterrupted
    before = path.read_bytes(), path.stat().st_mtime_ns
    monkeypatch.setattr(torch, "save", lambda *_: pytest.fail("rewritten"))
    monkeypatch.setattr(module.TrainingRun, "train_step", lambda *_: pytest.fail("trained"))
    again = run(path)
    assert again.reused and again.converged and not whole.reused
    assert weights_checksum(again.encoder) == weights_checksum(whole.encoder)
    assert repr(again.history) == repr(whole.history) and not again.encoder.training  # NaN is NaN
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_checkpoint_is_read_as_an_encoder(uninterrupted):
    assert weights_checksum(read_encoder(uninterrupted[1])) == weights_checksum(uninterrupted[0].encoder)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"epochs": 4}, "epochs=3 there, 4 asked"),
        ({"seed": 1}, "seed=0 there, 1 asked"),
        ({"learning_rate": 0.5}, r"learning_rate=0\.\d+ there, 0\.5 asked"),
        ({"options": {"temperature": 0.1}}, r"options=\{\} there, \{'temperature': 0.1\} asked"),
        ({"width": 8, "flip": 0.0}, "width=4 there, 8 asked; flip=0.5 there, 0.0 asked"),
        ({"objective": "supervised"}, "objective='simclr' there, 'supervised' asked"),
        ({"images": toy(seed=1)}, "data='[0-9a-f]+' there, '[0-9a-f]+' asked"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_the_differences(uninterrupted, changes, difference):
    path = uninterrupted[1]
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"simclr\.pt: expected the same parameters and data, got .*{difference}"):
        run(path, **changes)
    assert path.read_bytes() == before


def test_truncated_checkpoints_and_those_of_no_run_are_refused_by_name(tmp_path, uninterrupted):
    whole = uninterrupted[1].read_bytes()
    cut = tmp_path / "cut.pt"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.pt: expected a whole file"):
        run(cut)
    save_encoder(uninterrupted[0].encoder, tmp_path / "encoder.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("encoder", "list"):
        with pytest.raises(ValueError, match=rf"checkpoint .*{name}\.pt: expected"):
            run(tmp_path / f"{name}.pt")


def test_a_full_disk_keeps_the_previous_checkpoint_and_the_run_can_go_on(tmp_path, uninterrupted, monkeypatch):
    path, whole, saves = tmp_path / "simclr.pt", torch.save, []

    def save(state: dict, file: Path) -> None:
        saves.append(state["step"])
        if len(saves) == 4:
            file.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(state, file)

    monkeypatch.setattr(torch, "save", save)
    monkeypatch.setattr(module, "SAVE_EVERY_S", -1.0)
    with pytest.raises(OSError, match="No space left"):
        run(path)
    assert saves == [1, 2, 3, 4]
    previous = tmp_path / "simclr.pt.previous"
    assert read_checkpoint(path)["step"] == 3 and read_checkpoint(previous)["step"] == 2
    assert sorted(tmp_path.iterdir()) == [path, previous]
    monkeypatch.undo()
    assert_ends_the_same(run(path), path, uninterrupted)


def test_a_run_saves_at_its_interval_and_at_the_end(tmp_path, monkeypatch):
    path, whole, saves = tmp_path / "simclr.pt", torch.save, []
    monkeypatch.setattr(torch, "save", lambda state, file: (saves.append(state["step"]), whole(state, file)))
    run(path, epochs=1)
    assert saves == [5]
    assert run(None, epochs=1).converged  # without a checkpoint nothing is written
    assert saves == [5] and list(tmp_path.iterdir()) == [path]


def test_the_checkpoint_before_is_kept_whole_and_can_be_gone_on_from(tmp_path, uninterrupted):
    path, previous = tmp_path / "simclr.pt", tmp_path / "simclr.pt.previous"
    run(path, stop_after=4)
    assert not previous.exists()  # there was none before
    first = path.read_bytes()
    run(path, stop_after=3)
    assert previous.read_bytes() == first and read_checkpoint(path)["step"] == 7
    run(path, stop_after=2)
    assert read_checkpoint(previous)["step"] == 7 and read_checkpoint(path)["step"] == 9
    path.write_bytes(b"damaged by a failing disk")
    with pytest.raises(ValueError, match=r"simclr\.pt: expected a whole file"):
        run(path)
    assert read_checkpoint(previous)["step"] == 7
    previous.replace(path)
    assert_ends_the_same(run(path), path, uninterrupted)
    assert sorted(tmp_path.iterdir()) == [path, previous]


def test_without_hard_links_the_previous_checkpoint_is_a_copy(tmp_path, uninterrupted, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    path = tmp_path / "simclr.pt"
    run(path, stop_after=4)
    monkeypatch.setattr(os, "link", refuse)
    run(path, stop_after=2)
    assert read_checkpoint(path.with_name("simclr.pt.previous"))["step"] == 4
    assert_ends_the_same(run(path), path, uninterrupted)


def test_a_disk_that_fails_while_the_previous_is_kept_leaves_the_checkpoint(tmp_path, uninterrupted, monkeypatch):
    path = tmp_path / "simclr.pt"
    run(path, stop_after=4)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        run(path, stop_after=2)
    monkeypatch.undo()
    assert read_checkpoint(path)["step"] == 4
    assert_ends_the_same(run(path), path, uninterrupted)


# Divergence


def breaking_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From this step on SimCLR's loss is NaN."""
    original, calls = OBJECTIVES["simclr"].forward, []

    def forward(self, *batch):
        calls.append(1)
        return original(self, *batch) * (math.nan if len(calls) > step else 1)

    monkeypatch.setattr(OBJECTIVES["simclr"], "forward", forward)


def test_a_diverged_run_ends_early_and_keeps_its_last_good_checkpoint(tmp_path, uninterrupted, monkeypatch):
    path = tmp_path / "simclr.pt"
    breaking_at(7, monkeypatch)
    monkeypatch.setattr(module, "SAVE_EVERY_S", -1.0)
    diverged = run(path)
    assert not diverged.converged and diverged.reason == "the loss or the weights stopped being finite"
    assert len(diverged.history["loss"]) == 2 and math.isnan(diverged.history["loss"][1])
    assert read_checkpoint(path)["step"] == 7
    monkeypatch.undo()
    assert_ends_the_same(run(path), path, uninterrupted)  # a good one: what went wrong is not in it


@pytest.mark.parametrize("objective", ["simclr", "supervised"])
def test_an_absurd_learning_rate_is_reported_as_not_converged(tmp_path, objective):
    path = tmp_path / "absurd.pt"
    diverged = run(path, objective=objective, learning_rate=1e8, epochs=6, warmup=0.0)
    assert not diverged.converged and diverged.reason
    if path.exists():
        assert all(torch.isfinite(t).all() for t in read_checkpoint(path)["encoder"].values())


def test_a_loss_that_breaks_within_a_stopped_epoch_is_reported(tmp_path, monkeypatch):
    breaking_at(2, monkeypatch)
    stopped = run(tmp_path / "simclr.pt", stop_after=4)
    assert not stopped.converged and "finite" in stopped.reason
    assert not (tmp_path / "simclr.pt").exists()


def test_weights_that_overflow_in_the_last_step_are_not_converged_and_not_saved(tmp_path, monkeypatch):
    original = OBJECTIVES["simclr"].forward
    monkeypatch.setattr(OBJECTIVES["simclr"], "forward", lambda self, *batch: 1e6 * original(self, *batch))
    ended = run(tmp_path / "simclr.pt", images=toy(8), epochs=1, learning_rate=1e40, warmup=0.0)
    assert math.isfinite(ended.history["loss"][0])
    assert not all(torch.isfinite(p).all() for p in ended.encoder.parameters())
    assert not ended.converged and "finite" in ended.reason
    assert not (tmp_path / "simclr.pt").exists()


# What a run computes


def test_the_seed_decides_the_weights_and_nothing_else_does(uninterrupted):
    state = torch.get_rng_state()
    torch.manual_seed(99)
    again = run()
    assert weights_checksum(again.encoder) == weights_checksum(uninterrupted[0].encoder)
    torch.set_rng_state(state)
    before = torch.get_rng_state()
    other = run(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert weights_checksum(other.encoder) != weights_checksum(uninterrupted[0].encoder)


def test_a_tiny_supervised_run_learns(tmp_path):
    images = toy(64)
    gentle = {"epochs": 12, "batch_size": 16, "learning_rate": 1.0, "crop_scale": 0.5, "flip": 0.0}
    result = run(tmp_path / "s.pt", images, objective="supervised", **gentle)
    head = read_checkpoint(tmp_path / "s.pt")["heads"]
    logits = extract(result.encoder, images) @ head["head.weight"].T + head["head.bias"]
    assert (logits.argmax(1) == images.labels).float().mean() > 0.8
    loss = result.history["loss"]
    assert len(loss) == len(result.history["seconds"]) == 12 and loss[-1] < 0.6 * loss[0]


def test_simclr_learns_without_labels():
    gentle = {"epochs": 40, "batch_size": 64, "learning_rate": 0.2, "crop_scale": 0.5, "flip": 0.0, "width": 8}
    options = {"temperature": 0.2, "jitter_strength": 0.0, "greyscale": 0.0}
    loss = run(images=toy(64, labelled=False), options=options, **gentle).history["loss"]
    assert sum(loss[-3:]) / 3 < sum(loss[:3]) / 3 - 0.5


def test_labels_are_asked_for_only_where_they_are_used():
    with pytest.raises(
        ValueError, match=r"images: expected labels, which supervised learns from, got .*unlabelled.*toy"
    ):
        run(images=toy(labelled=False), objective="supervised")


def test_the_reported_loss_is_the_mean_over_the_epoch(monkeypatch):
    losses, original = [], OBJECTIVES["simclr"].forward

    def forward(self, *batch):
        loss = original(self, *batch)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(OBJECTIVES["simclr"], "forward", forward)
    history = run(epochs=2).history["loss"]
    assert history == pytest.approx([sum(losses[:5]) / 5, sum(losses[5:]) / 5], rel=1e-5)


def test_an_objective_is_called_around_every_step_with_the_progress(monkeypatch):
    calls, kind, step = [], OBJECTIVES["simclr"], torch.optim.SGD.step

    def before(self, progress):
        assert all(p.grad is not None for p in self.parameters())
        calls.append(("before", progress))

    monkeypatch.setattr(kind, "before_step", before)
    monkeypatch.setattr(torch.optim.SGD, "step", lambda *given: (calls.append("step"), step(*given)))
    monkeypatch.setattr(kind, "after_step", lambda self, progress: calls.append(("after", progress)))
    run(images=toy(16), epochs=2)
    expected = [[("before", i / 4), "step", ("after", (i + 1) / 4)] for i in range(4)]
    assert calls == [call for calls_of_step in expected for call in calls_of_step]


def test_a_step_sees_the_images_with_their_labels_and_their_places(monkeypatch):
    images, seen, original = toy(24), [], OBJECTIVES["simclr"].forward
    monkeypatch.setattr(OBJECTIVES["simclr"], "views", lambda self, x, generator: [x.float() / 255, x.float() / 255])

    def forward(self, views, labels, index):
        seen.append(index)
        assert torch.equal((255 * views[0]).round().to(torch.uint8), images.images[index])
        assert torch.equal(labels, images.labels[index])
        return original(self, views, labels, index)

    monkeypatch.setattr(OBJECTIVES["simclr"], "forward", forward)
    run(images=images, epochs=2)
    assert [sorted(torch.cat(seen[i : i + 3]).tolist()) for i in (0, 3)] == [list(range(24))] * 2


def test_weight_decay_spares_biases_and_batch_norms(monkeypatch):
    """With no gradient at all, decay is the only thing that can move a weight."""
    no_gradient = lambda self, *batch: 0 * sum(p.sum() for p in self.parameters())  # noqa: E731
    monkeypatch.setattr(OBJECTIVES["supervised"], "forward", no_gradient)
    same_way = {"objective": "supervised", "epochs": 1, "learning_rate": 8.0, "warmup": 0.0}
    still = dict(run(weight_decay=0.0, **same_way).encoder.named_parameters())
    decayed = dict(run(weight_decay=0.1, **same_way).encoder.named_parameters())
    for name, before in still.items():
        if before.ndim > 1:
            assert decayed[name].norm() < 0.95 * before.norm()
        else:
            assert torch.equal(decayed[name], before), name


def test_the_learning_rate_scales_with_the_batch_and_follows_the_schedule(monkeypatch):
    rates, step = [], torch.optim.SGD.step

    def watched(self, *args):
        rates.append({group["lr"] for group in self.param_groups})
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    run(learning_rate=0.64, warmup=0.2)
    peak = 0.64 * 8 / 256
    assert rates == [{peak * cosine_with_warmup(i, 15, 0.2)} for i in range(15)]
    rates.clear()
    run(images=toy(5), epochs=1, learning_rate=0.64, warmup=0.0)  # fewer images than a batch
    assert rates == [{0.64 * 5 / 256}]


def test_an_epoch_is_a_permutation_without_its_incomplete_batch():
    first = batches_of(0, 43, 8, seed=0)
    assert first.shape == (5, 8) and len(first.unique()) == 40
    assert torch.equal(batches_of(0, 43, 8, seed=0), first)
    assert not torch.equal(batches_of(1, 43, 8, seed=0), first)
    assert not torch.equal(batches_of(0, 43, 8, seed=1), first)
    left_out = torch.stack([batches_of(e, 43, 8, 0).flatten().bincount(minlength=43) for e in range(60)]).sum(0)
    assert left_out.min() > 40  # no image is left out for good


def test_every_step_and_seed_has_its_own_random_numbers():
    draws = {
        float(torch.rand((), generator=seeded(s, i, CPU), dtype=torch.float64)) for s in range(8) for i in range(8)
    }
    assert len(draws) == 64


# Configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "simcrl"}, "objective: expected one of .*did you mean 'simclr'"),
        ({"epochs": 0}, "epochs: expected at least 1"),
        ({"batch_size": 1}, "batch_size: expected at least 2"),
        ({"warmup": 1.0}, "warmup: expected a share"),
        ({"crop_scale": 0.0}, "crop_scale: expected a share"),
        ({"crop_scale": 1.1}, "crop_scale: expected a share"),
        ({"flip": -0.1}, "flip: expected a probability"),
        ({"precision": "fp16"}, "precision: expected auto, bf16 or float32"),
        ({"depth": 20}, "depth: expected 18, 34 or 50, got 20"),
        ({"width": 0}, "width: expected at least 1"),
        ({"learning_rate": -0.1}, "learning_rate: expected a finite value of at least 0"),
        ({"learning_rate": math.inf}, "learning_rate: expected a finite value of at least 0"),
        ({"weight_decay": math.nan}, "weight_decay: expected a finite value of at least 0"),
        ({"optimizer": "sdg"}, "optimizer: expected one of .*did you mean 'sgd'"),
        ({"schedule": "cosin"}, "schedule: expected one of .*did you mean 'cosine'"),
        ({"options": {"temperature": "low"}}, "temperature: expected a value such as 0.5"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


@pytest.mark.parametrize(
    ("objective", "option", "message"),
    [
        (
            "simclr",
            "temprature",
            "options.*: expected one of .*got 'temprature'; did you mean 'temperature'",
        ),
        ("simclr", "crop_scale", "options.*: expected one of .*got 'crop_scale'"),
        ("supervised", "temperature", "options.*: expected one of .*got 'temperature'"),
    ],
)
def test_an_unknown_option_names_the_nearest(objective, option, message):
    with pytest.raises(ValueError, match=message):
        run(objective=objective, options={option: 0.1})


def test_options_and_augmentation_reach_the_objective():
    objective = module.objective_from(config(options={"temperature": 0.07}, crop_scale=0.4, flip=0.1), toy())
    assert objective.temperature == 0.07
    assert all(view.scale == (0.4, 1.0) and view.flip == 0.1 for view in objective.augmentations)


def test_defaults_are_filled_in_and_recorded():
    resolved = PretrainConfig("supervised").resolved(CPU)
    assert resolved.learning_rate == OBJECTIVES["supervised"].learning_rate
    assert resolved.weight_decay == OBJECTIVES["supervised"].weight_decay
    assert resolved.precision in ("bf16", "float32")
    chosen = PretrainConfig("supervised", learning_rate=0.0, weight_decay=0.0).resolved(CPU)
    assert chosen.learning_rate == chosen.weight_decay == 0
    assert run(epochs=1, stop_after=1).config.learning_rate == OBJECTIVES["simclr"].learning_rate
    for name in optim.OPTIMIZERS:  # an objective's own learning rate is for SGD
        own = PretrainConfig("supervised", optimizer=name).resolved(CPU).learning_rate
        assert own == LEARNING_RATES.get(name, OBJECTIVES["supervised"].learning_rate)


def test_the_architecture_is_the_one_asked_for():
    built = module.objective_from(config(depth=34, stem="imagenet"), toy()).encoder
    assert built.spec == {"family": "resnet", "depth": 34, "width": 4, "stem": "imagenet", "in_channels": 3}
    grey = dataclasses.replace(toy(), images=toy().images[:, :1].contiguous())
    assert module.objective_from(config(), grey).encoder.in_channels == 1
    assert run(images=grey, epochs=1).converged


# The shared cache


def test_the_time_for_which_an_epoch_waits_for_the_device_is_training(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def finite(self: module.TrainingRun) -> bool:  # reads a number back, so that the device must have come this far
        now[0] += 100.0
        return True

    monkeypatch.setattr(module.TrainingRun, "finite", finite)
    done = run(epochs=2)
    assert done.history["seconds"] == [100.0, 100.0] and done.history["looking"] == [0.0, 0.0]


# Ends of epochs


def test_a_run_killed_while_an_epoch_ends_has_that_epoch_in_its_history(tmp_path, uninterrupted, monkeypatch):
    path, whole = tmp_path / "simclr.pt", module.TrainingRun.end_epoch

    def die(self: module.TrainingRun) -> bool:
        if self.step == 10:
            raise KeyboardInterrupt
        return whole(self)

    monkeypatch.setattr(module, "SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(module.TrainingRun, "end_epoch", die)
    with pytest.raises(KeyboardInterrupt):
        run(path)
    monkeypatch.undo()
    resumed = run(path)
    assert len(resumed.history["loss"]) == 3
    assert weights_checksum(resumed.encoder) == weights_checksum(uninterrupted[0].encoder)
    assert resumed.history["loss"] == uninterrupted[0].history["loss"]


def collapsing_in_epoch(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The monitor sees features that are all alike from this epoch on."""
    original = module.TrainingRun._look

    def look(self: module.TrainingRun):
        seen = original(self)
        alike = dataclasses.replace(seen, deviation=0.0) if seen else module.Look(0.1, 0.1, 1.0, 0.0)
        return alike if self.step >= epoch * self.per_epoch else seen

    monkeypatch.setattr(module.TrainingRun, "_look", look)


@pytest.mark.parametrize("epoch", [2, 3])
def test_a_collapsed_run_goes_back_to_what_was_sound_and_says_so_every_time(tmp_path, monkeypatch, epoch):
    path = tmp_path / "simclr.pt"
    collapsing_in_epoch(epoch, monkeypatch)
    monkeypatch.setattr(module, "SAVE_EVERY_S", -1.0)
    for _ in range(2):
        collapsed = run(path)
        assert not collapsed.converged and not collapsed.reused and "collapsed" in collapsed.reason
        assert len(collapsed.history["loss"]) == epoch
        assert read_checkpoint(path)["step"] in range(5, 5 * epoch, 5)  # the end of an epoch that somebody looked at
    assert not (tmp_path / "simclr.pt.sound").exists()


def test_an_objective_that_draws_without_a_generator_resumes_to_the_same_bits(tmp_path, monkeypatch):
    whole = OBJECTIVES["simclr"].forward

    def noisy(self, views, labels, index):
        return whole(self, [view + 0.1 * torch.rand_like(view) for view in views], labels, index)

    monkeypatch.setattr(OBJECTIVES["simclr"], "forward", noisy)
    at_once = run()
    run(tmp_path / "s.pt", stop_after=6)
    torch.rand(3)  # whatever the caller draws in between
    state = torch.get_rng_state()
    assert weights_checksum(run(tmp_path / "s.pt").encoder) == weights_checksum(at_once.encoder)
    assert torch.equal(state, torch.get_rng_state())  # which the run leaves as it was


def test_a_checkpoint_of_another_number_of_processes_is_refused(tmp_path, monkeypatch):
    run(tmp_path / "s.pt", stop_after=2)
    monkeypatch.setattr(module.distributed, "world", lambda: 2)
    monkeypatch.setattr(module.TrainingRun, "_parallel", lambda self: self.objective)
    with pytest.raises(ValueError, match="processes=1 there, 2 asked"):
        run(tmp_path / "s.pt")
