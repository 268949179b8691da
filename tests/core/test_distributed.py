"""Two processes on one machine act as one with the joint batch."""

import contextlib
import datetime
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sslnb.core import distributed
from sslnb.core.seeds import seeded
from sslnb.data.images import ImageSet
from sslnb.encoders.encoder import weights_checksum
from sslnb.encoders.load import read_checkpoint, read_encoder
from sslnb.objectives import registry
from sslnb.objectives.registry import OBJECTIVES
from sslnb.training.loop import PretrainConfig, pretrain
from sslnb.training.penalty import Penalty, Regularized

CPU = torch.device("cpu")
WORLD, BATCH, IMAGES = 2, 16, 24
INDEX = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(1))[:BATCH]
LABELS = torch.arange(BATCH) % 4
PENALTIES = {
    "lasso": Penalty("lasso", norm_weight=0.1),
    "qscore": Penalty("qscore", torch.arange(32) % 2 == 0, weight=5.0, norm_weight=0.1, epsilon=1.0),
}
NAMES = [*sorted(OBJECTIVES), *(f"simclr+{penalty}" for penalty in PENALTIES)]


def images(n: int = IMAGES) -> ImageSet:
    drawn = torch.randint(256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(drawn, torch.arange(n) % 4, tuple("abcd"), None, "toy")


def own(name: str, view: Tensor, rank: int | None) -> Tensor:
    """The part of a joint batch of views that a rank would have drawn; all of it without a rank."""
    if rank is None:
        return view
    if name == "rotnet":  # first all images upright, then all turned once, and so on
        return view.unflatten(0, (4, BATCH)).chunk(WORLD, 1)[rank].flatten(0, 1)
    return view.chunk(WORLD)[rank]


@contextlib.contextmanager
def without_kinks() -> Iterator[pytest.MonkeyPatch]:
    """Smooth networks: where one activation of thousands rounds to the other side of 0, a ReLU's gradient jumps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "relu", nn.functional.softplus)
        patch.setattr(nn, "ReLU", lambda inplace: nn.Softplus())
        yield patch


@without_kinks()
def two_steps(name: str, rank: int | None) -> dict:
    """Loss and gradient of one step on the joint batch, everything after it, and the loss of a second step."""
    name, _, penalty = name.partition("+")
    kind = registry.get(name)
    torch.manual_seed(0)
    encoder = kind.build_encoder(18, width=4, stem="cifar", in_channels=3)
    objective = kind(encoder, 4, IMAGES, crop_scale=(0.5, 1.0), flip=0.5).train()
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.005, momentum=0.9)
    model = Regularized(objective, PENALTIES[penalty]) if penalty else objective
    if rank is not None:
        distributed.with_joint_batch_norm(objective, CPU)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.15 has a new name for the argument
            model = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    labels, index = (own(name, part, rank) if name != "rotnet" else own("", part, rank) for part in (LABELS, INDEX))
    losses, found = [], {}
    for step in (0, 1):
        views = objective.views(images().images[INDEX], torch.Generator().manual_seed(step))
        loss = model([own(name, view, rank) for view in views], labels, index)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            found["gradient"] = {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}
        objective.before_step(0.5)
        optimizer.step()
        objective.after_step(0.5)
        losses.append(float(loss.detach()))
        if step == 0:
            found["state"] = {key: value.clone() for key, value in objective.state_dict().items()}
    return {**found, "losses": losses}


def weighted_sum(x: Tensor, of_rank: int) -> Tensor:
    """Something of all ranks' x that differs from rank to rank."""
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(100 + of_rank), dtype=x.dtype)
    return (weight * x.square()).sum()


def of_rank(rank: int) -> Tensor:
    return torch.randn(3, 2, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)


def collectives(rank: int) -> dict[str, Tensor]:
    found = {}
    for name, join in (("gather", distributed.gather), ("total", distributed.total)):
        x = of_rank(rank).requires_grad_()
        found[name] = join(x)
        weighted_sum(found[name], rank).backward()
        found[f"{name} gradient"] = x.grad
    # A transposed tensor, and a gradient that is an expanded number: neither is contiguous.
    odd = of_rank(rank).T.requires_grad_()
    found["odd"] = distributed.gather(odd)
    found["odd"].sum().backward()
    found["odd gradient"] = odd.grad
    flags = [distributed.any_rank(flag, CPU) for flag in (False, rank == 1, True)]
    facts = {"flags": torch.tensor(flags), "ranks": torch.tensor([distributed.rank(), distributed.world()])}
    return {key: value.detach() for key, value in (found | facts).items()}


CONFIG = PretrainConfig("simclr", width=4, epochs=2, batch_size=BATCH, precision="float32")


def same_views(self: object, images: Tensor, generator: object) -> list[Tensor]:
    """Views without chance: the image and its mirror image."""
    return [images.float() / 255, images.flip(3).float() / 255]


def runs(rank: int | None, folder: Path) -> dict:
    """Whole training runs, as every process makes them: in one go, stopped and resumed, and what views it draws."""
    simclr, forward = OBJECTIVES["simclr"], OBJECTIVES["simclr"].forward
    data, seen = images(40), []
    given = {"on": CPU, "held_out": images(16)}
    with without_kinks() as patch:
        patch.setattr(simclr, "views", same_views)
        whole = pretrain(CONFIG, data, checkpoint=folder / "whole.pt", log=folder / "whole.jsonl", **given)
        pretrain(CONFIG, data, checkpoint=folder / "parts.pt", stop_after=3, **given)
        resumed = pretrain(CONFIG, data, checkpoint=folder / "parts.pt", **given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simclr, "forward", lambda self, views, *rest: seen.extend(views) or forward(self, views, *rest))
        alike = ImageSet(data.images[:1].expand(BATCH, -1, -1, -1).contiguous(), LABELS, data.classes, None, "alike")
        pretrain(CONFIG, alike, on=CPU, stop_after=1)
    return {
        "weights": whole.encoder.state_dict(),
        "history": whole.history,
        "resumed": weights_checksum(resumed.encoder) == weights_checksum(whole.encoder),
        "views": seen,
    }


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store, patience = f"file://{folder}/store", datetime.timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD, timeout=patience)
    try:
        found = {
            "collectives": collectives(rank),
            "steps": {name: two_steps(name, rank) for name in NAMES},
        }
        torch.save({**found, "runs": runs(rank, Path(folder) / "runs")}, Path(folder) / f"{rank}.pt")
    finally:
        distributed.stop()


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    """What each of two processes found, everything in one start of them."""
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(process, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt") | {"folder": folder} for rank in range(WORLD)]


def test_gathered_tensors_are_those_of_all_ranks_and_sums_their_sum(both):
    parts = [of_rank(rank) for rank in range(WORLD)]
    for rank, found in enumerate(both):
        found = found["collectives"]
        assert torch.equal(found["gather"], torch.cat(parts)) and torch.equal(found["total"], sum(parts))
        assert torch.equal(found["odd"], torch.cat([part.T for part in parts]))
        assert found["flags"].tolist() == [False, True, True] and found["ranks"].tolist() == [rank, WORLD]


def test_the_gradient_of_a_gathered_tensor_is_the_sum_over_the_ranks_losses(both):
    for name, join in (("gather", torch.cat), ("total", sum)):
        parts = [of_rank(rank).requires_grad_() for rank in range(WORLD)]
        sum(weighted_sum(join(parts), rank) for rank in range(WORLD)).backward()
        for part, found in zip(parts, both, strict=True):
            torch.testing.assert_close(found["collectives"][f"{name} gradient"], part.grad)
    for found in both:
        assert torch.equal(found["collectives"]["odd gradient"], torch.full((2, 3), float(WORLD), dtype=torch.float64))


@pytest.fixture(scope="module")
def alone() -> dict[str, dict]:
    return {name: two_steps(name, None) for name in NAMES}


def norm(tensors: dict[str, Tensor]) -> float:
    return float(torch.stack([t.double().norm() for t in tensors.values()]).norm())


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_step_by_the_gradient_of_one_with_the_joint_batch(name, both, alone):
    expected, steps = alone[name], [found["steps"][name] for found in both]
    for step in steps:
        assert step["gradient"].keys() == expected["gradient"].keys()
        away = {key: gradient - expected["gradient"][key] for key, gradient in step["gradient"].items()}
        assert norm(away) <= 1e-5 * norm(expected["gradient"])
    # Each rank's loss is the joint one, or that of its half where images have nothing to do with each other.
    for number, loss in enumerate(expected["losses"]):
        mean = sum(step["losses"][number] for step in steps) / WORLD
        assert mean == pytest.approx(loss, rel=1e-5 if number == 0 else 1e-3, abs=1e-5 if number == 0 else 1e-3)
        if name not in ("rotnet", "supervised"):
            assert steps[0]["losses"][number] == steps[1]["losses"][number]


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_keep_equal_weights_queues_banks_centres_and_batch_statistics(name, both, alone):
    (first, second), expected = (found["steps"][name]["state"] for found in both), alone[name]["state"]
    assert first.keys() == second.keys() == expected.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key  # to the bit, or they would drift apart
        tolerance = {"atol": 1e-5, "rtol": 1e-4} if value.is_floating_point() else {}
        torch.testing.assert_close(value, expected[key], msg=lambda m, key=key: f"{key}: {m}", **tolerance)
    moved = [key for key, value in first.items() if key.endswith("running_var") and not (value == 1).all()]
    assert len(moved) >= 20


def test_a_whole_run_of_two_processes_ends_like_one_with_the_joint_batch(both, tmp_path):
    expected = runs(None, tmp_path)
    first, second = (found["runs"] for found in both)
    assert all(torch.equal(value, second["weights"][key]) for key, value in first["weights"].items())
    assert first["history"]["loss"] == second["history"]["loss"]
    assert first["history"]["loss"] == pytest.approx(expected["history"]["loss"], rel=1e-4)
    for key, value in expected["weights"].items():
        torch.testing.assert_close(first["weights"][key], value, atol=1e-4, rtol=1e-3, msg=lambda m, k=key: f"{k}: {m}")
    # Batch norms take part in the training: nothing else says so when an optimizer holds others.
    norms = [value for key, value in first["weights"].items() if key.endswith("residual.1.bias")]
    assert len(norms) == 8 and all(value.any() for value in norms)


def test_a_resumed_run_of_two_processes_ends_the_same_to_the_bit(both):
    assert all(found["runs"]["resumed"] for found in both)


def test_one_process_writes_checkpoint_and_log(both):
    folder = both[0]["folder"] / "runs"
    state = read_checkpoint(folder / "whole.pt")
    assert state["step"] == 4 and weights_checksum(read_encoder(folder / "whole.pt"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "parts.pt",
        "parts.pt.previous",
        "whole.jsonl",
        "whole.pt",
        "whole.pt.previous",
    ]
    lines = [json.loads(line) for line in (folder / "whole.jsonl").read_text().splitlines()]
    assert lines[0]["processes"] == WORLD and [line.get("epoch") for line in lines] == [None, 1, 2]


def test_each_process_draws_views_of_its_own(both):
    views = [found["runs"]["views"] for found in both]
    assert [len(v) for v in views] == [2, 2] and views[0][0].shape == (BATCH // WORLD, 3, 16, 16)
    for mine, other in zip(*views, strict=True):
        assert not any(torch.equal(a, b) for a in mine for b in other)  # although all images are the same


def test_the_random_numbers_of_a_step_differ_by_rank():
    draws = {float(torch.rand((), generator=seeded(0, step, CPU, rank))) for step in range(4) for rank in range(4)}
    assert len(draws) == 16
    assert seeded(3, 5, CPU).initial_seed() == seeded(3, 5, CPU, 0).initial_seed()


def test_one_process_needs_no_group():
    x = torch.ones(2, 3, requires_grad=True)
    assert distributed.gather(x) is x and distributed.total(x) is x
    assert (distributed.world(), distributed.rank()) == (1, 0) and distributed.any_rank(True, CPU)
    assert distributed.start() is None or "TORCHELASTIC_RUN_ID" in os.environ
    distributed.stop()


@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(1, 4), st.sampled_from([(), (3,), (2, 3)]), st.booleans())
@settings(deadline=None, max_examples=25)
def test_a_joint_batch_norm_of_one_process_is_a_batch_norm(seed, n, channels, shape, affine):
    torch.manual_seed(seed)
    norms = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
    plain = norms[len(shape)](channels, affine=affine).double()
    if affine:
        nn.init.normal_(plain.weight)
    joint = distributed.with_joint_batch_norm(nn.Sequential(plain), CPU)[0]
    assert isinstance(joint, distributed.JointBatchNorm) and joint.weight is plain.weight and joint.training
    plain = norms[len(shape)](channels, affine=affine)
    plain.load_state_dict(joint.state_dict())
    joint.float()
    for _ in (0, 1):
        x = torch.randn(n, channels, *shape)
        inputs = [x.clone().requires_grad_() for _ in (0, 1)]
        weight = torch.randn_like(x)
        for norm_, given_ in zip((plain, joint), inputs, strict=True):
            norm_.zero_grad()
            (norm_(given_) * weight).sum().backward()
        # Two samples can lie close together: then the gradient is a difference of large numbers.
        torch.testing.assert_close(inputs[1].grad, inputs[0].grad, atol=1e-3, rtol=1e-3)
        for a, b in zip(joint.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)
        for key, value in plain.state_dict().items():
            torch.testing.assert_close(joint.state_dict()[key], value)
    torch.testing.assert_close(joint.eval()(x), plain.eval()(x))


def test_joint_batch_norms_keep_the_parameters_that_an_optimizer_holds_and_what_takes_no_gradient():
    objective = registry.get("moco")(
        registry.get("moco").build_encoder(18, width=4, stem="cifar", in_channels=3), 4, 8, crop_scale=(1, 1), flip=0
    ).eval()
    before = dict(objective.named_parameters())
    distributed.with_joint_batch_norm(objective, CPU)
    after = dict(objective.named_parameters())
    assert before.keys() == after.keys() and all(after[name] is p for name, p in before.items())
    assert not any(p.requires_grad for p in objective.slow.parameters())
    kinds = {type(m) for m in objective.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert kinds == {distributed.JointBatchNorm} and not any(m.training for m in objective.modules())


def test_a_batch_that_the_processes_can_not_share_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 3)
    with pytest.raises(ValueError, match="batch_size: expected a multiple of the 3 processes, got 16"):
        pretrain(CONFIG, images(), on=CPU)


def test_torchrun_pretrains_with_two_processes_as_one(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = ["--objective", "simclr", "--dataset", "digit-scenes", "--arch", "resnet18", "--width", "4"]
    run += ["--epochs", "1", "--limit", "64", "--batch-size", "16", "--out", "FILE.pt"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SSLNB_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [*torchrun, "-m", "sslnb", "pretrain", *run],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    state = read_checkpoint(tmp_path / "FILE.pt")
    assert state["step"] == 4 and state["config"]["batch_size"] == 16
    first, *rest = (json.loads(line) for line in (tmp_path / "FILE.jsonl").read_text().splitlines())
    assert first["processes"] == 2 and "pretrain --objective simclr" in first["command"]
    assert [line["epoch"] for line in rest] == [1] and 0 < rest[0]["loss"] < 10
    assert done.stdout.count("loss ") == 1  # one process reports
