"""A hundred inputs that can't be used: one line that names the argument, a status that is not 0, nothing done."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslnb import cli
from sslnb.book import runner
from sslnb.data import load
from sslnb.encoders import save_encoder
from sslnb.encoders.resnet import untrained
from sslnb.pool import train as pool_training

SPLITS = ("train", "val", "test")


def picture(path: Path, side: int = 32, mode: str = "RGB", seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    Image.fromarray(values).convert(mode).save(path)


def arrays(path: Path, **changes: object) -> None:
    """A small npz in MedMNIST's layout, with some arrays changed or, where None, left out."""
    rng, content = np.random.default_rng(0), {}
    for split in SPLITS:
        content[f"{split}_images"] = rng.integers(0, 255, (40, 32, 32, 3), np.uint8)
        content[f"{split}_labels"] = np.arange(40) % 4
    content |= changes
    np.savez(path, **{name: value for name, value in content.items() if value is not None})


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that somebody may give by mistake."""
    at = tmp_path_factory.mktemp("hostile")
    save_encoder(untrained(0, width=4), at / "fine.pt")
    save_encoder(untrained(0, width=4, in_channels=1), at / "grey.pt")
    whole = (at / "fine.pt").read_bytes()
    (at / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (at / "empty.pt").write_bytes(b"")
    (at / "text.pt").write_text("not a checkpoint")
    (at / "text.safetensors").write_text("not a checkpoint")
    torch.save([1, 2], at / "list.pt")
    torch.save({"weights": torch.zeros(3)}, at / "other.pt")
    weights = untrained(0, width=4).state_dict()
    torch.save({"spec": {"family": "resnet", "depth": 18, "width": 8}, "encoder": weights}, at / "mixed.pt")
    torch.save({"spec": {"family": "Gone"}, "encoder": {}}, at / "gone.pt")
    torch.save({"model": torch.nn.Linear(2, 2)}, at / "module.pt")
    for k in range(6):
        picture(at / "photos" / "ab"[k % 2] / f"{k}.png", seed=k)
        picture(at / "one" / "a" / f"{k}.png", seed=k)
        picture(at / "sizes" / "ab"[k % 2] / f"{k}.png", side=30 + k, seed=k)
        picture(at / "broken" / "ab"[k % 2] / f"{k}.png", seed=k)
    broken = at / "broken" / "a" / "0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    (at / "nothing").mkdir()
    (at / "hollow" / "a").mkdir(parents=True)
    (at / "hollow" / "b").mkdir()
    arrays(at / "fine.npz")
    arrays(at / "unlabelled.npz", train_labels=None)
    arrays(at / "short.npz", train_labels=np.arange(39) % 4)
    arrays(at / "single.npz", **{f"{split}_labels": np.zeros(40, int) for split in SPLITS})
    arrays(at / "objects.npz", train_labels=np.array([{}] * 40, object))
    arrays(at / "flat.npz", train_images=np.zeros((40, 3072), np.uint8))
    arrays(at / "many.npz", train_labels=np.zeros((40, 14), int))
    (at / "text.npz").write_text("not an archive")
    arrays(at / "grey.npz", **{f"{split}_images": np.zeros((40, 28, 28), np.uint8) for split in SPLITS})
    return at


RUN = ["run", "separability", "-p"]
CASES = [
    # misspelled, or of the wrong type
    (["run", "separabilty"], "study: expected one of"),
    ([*RUN, "probe_epoch=3"], "did you mean 'probe_epochs'"),
    ([*RUN, "Datasets=cifar10"], "did you mean 'datasets'"),
    ([*RUN, "=3"], "-p: expected NAME=VALUE"),
    ([*RUN, "epochs"], "-p: expected NAME=VALUE"),
    ([*RUN, "size=4", "-p", "size=5"], "-p: expected each name once"),
    ([*RUN, "probe_epochs=three"], "probe_epochs: expected a valid integer"),
    ([*RUN, "probe_epochs=1.5"], "probe_epochs: expected a valid integer"),
    ([*RUN, "probe_epochs="], "probe_epochs: expected a valid integer"),
    ([*RUN, "probe_epochs=0"], "probe_epochs: expected at least 1, got"),
    ([*RUN, "probe_epochs=-3"], "probe_epochs: expected at least 1, got"),
    ([*RUN, "probe_epochs=all"], "probe_epochs: expected a valid integer"),
    ([*RUN, "attack_steps=nan"], "attack_steps: expected a valid integer"),
    ([*RUN, "attack_steps=inf"], "attack_steps: expected a valid integer"),
    ([*RUN, "size=0"], "size: expected at least 1"),
    ([*RUN, "size=32px"], "size: expected a valid integer"),
    ([*RUN, "datasets="], "datasets: expected"),
    ([*RUN, "datasets=a,,b"], "datasets: expected"),
    ([*RUN, "datasets=cifar10,cifar10"], "datasets: expected distinct values"),
    ([*RUN, "pool=smal"], "pool: expected one of"),
    ([*RUN, "pool=../quick"], "pool: expected one of"),
    ([*RUN, "objectives=simcr"], "did you mean 'simclr'"),
    (["run", "separability", "--profile", "quik"], "profile: expected one of"),
    (["run", "separability", "--profile", "published", "-p", "size=4"], "no other parameter with 'published'"),
    (["run", "cka", "-p", "crop_scale=0"], "crop_scale: expected a value above 0"),
    (["run", "cka", "-p", "crop_scale=1.5"], "crop_scale: expected at most 1"),
    (["run", "cka", "-p", "crop_scale=nan"], "crop_scale: expected"),
    (["run", "cka", "-p", "flip=yes"], "flip: expected a valid number"),
    (["run", "cka", "-p", "compared=byoll"], "compared: expected"),
    (["run", "cka", "-p", "permutations=1"], "permutations: expected at least 2"),
    (["run", "cka", "-p", "gram_batch=3"], "gram_batch: expected at least 4"),
    (["run", "qscore", "-p", "low=95", "-p", "high=50"], "expected low ends below high"),
    (["run", "qscore", "-p", "low=-1"], "low: expected at least 0"),
    (["run", "qscore", "-p", "high=101"], "high: expected at most 100"),
    (["run", "qscore", "-p", "shares=0.5"], "shares: expected values in"),
    (["run", "qscore", "-p", "shares=1,0.5"], "shares: expected ascending values"),
    (["run", "qscore", "-p", "epsilons=2,1"], "epsilons: expected ascending values"),
    (["run", "qscore", "-p", "epsilon=-2"], "epsilon: expected at least 0"),
    (["run", "qscore", "-p", "heatmap_layer=layer22"], "heatmap_layer: expected a layer of the pool's encoders"),
    (["run", "qscore", "-p", "masked=npz:fine.npz"], "masked: expected sets with masks"),
    (["run", "contrastive_geometry", "-p", "tuning=half"], "tuning: expected 'head' or 'full'"),
    (["run", "contrastive_geometry", "-p", "surface_points=4"], "surface_points: expected"),
    (["run", "contrastive_geometry", "-p", "budgets=3,2"], "budgets: expected"),
    (["run", "contrastive_geometry", "-p", "tasks=0 1 77"], "classes"),
    (["run", "contrastive_geometry", "-p", "tasks=0"], "tasks: expected distinct numbers of two or more classes"),
    (["run", "simclr_rotnet", "-p", "fractions=0.1,0.01"], "fractions: expected"),
    (["run", "simclr_rotnet", "-p", "fractions=0"], "fractions: expected"),
    (["run", "simclr_rotnet", "-p", "pool=quick"], "pool: expected a grid of both objectives"),
    (["run", "simclr_rotnet", "-p", "largest_budget=50"], "largest_budget: expected at most"),
    (["run", "simclr_rotnet", "-p", "tune_rate=0"], "tune_rate: expected a value above 0"),
    (["run", "objectives", "-p", "pool=quick", "-p", "test_limit=1"], "test_limit: expected at least 2"),
    # encoders that are missing, damaged, of another kind or for other images
    ([*RUN, "encoder=resnet19"], "spec: expected"),
    ([*RUN, "encoder=my.pt"], "spec: expected"),
    ([*RUN, "encoder=checkpoint:"], "spec: expected 'resnet18'"),
    ([*RUN, "encoder=checkpoint:missing.pt"], "encoder: expected checkpoint: and a path that exists"),
    ([*RUN, "encoder=checkpoint:photos"], "checkpoint: expected a file"),
    ([*RUN, "encoder=checkpoint:cut.pt"], "checkpoint cut.pt: expected a whole file"),
    ([*RUN, "encoder=checkpoint:empty.pt"], "checkpoint empty.pt: expected a whole file"),
    ([*RUN, "encoder=checkpoint:text.pt"], "checkpoint text.pt: expected a whole file"),
    ([*RUN, "encoder=checkpoint:text.safetensors"], "checkpoint text.safetensors: expected a whole file"),
    ([*RUN, "encoder=checkpoint:list.pt"], "checkpoint list.pt: expected a dictionary"),
    ([*RUN, "encoder=checkpoint:other.pt"], "checkpoint: expected a ResNet's parameters"),
    ([*RUN, "encoder=checkpoint:mixed.pt"], "checkpoint mixed.pt: expected weights of"),
    ([*RUN, "encoder=checkpoint:gone.pt"], "spec: expected a family of"),
    ([*RUN, "encoder=checkpoint:module.pt"], "torch.nn.modules.linear.Linear, which loading would execute"),
    ([*RUN, "encoder=checkpoint:fine.pt?arch=resnet50"], "checkpoint: expected"),
    ([*RUN, "encoder=checkpoint:fine.pt?colour=red"], "spec: expected one of"),
    ([*RUN, "encoder=checkpoint:grey.pt"], "encoder: expected images of 1 channels, got 3"),
    ([*RUN, "encoder=torchvision:resnet"], "spec: expected a model that torchvision"),
    ([*RUN, "encoder=timm:no_such_model"], "spec: expected a model that timm"),
    ([*RUN, "encoder=pool:quick/simclr"], "spec: expected pool:SCALE/VARIANT/SEED"),
    ([*RUN, "encoder=pool:quick/simclr/9"], "expected one of"),
    ([*RUN, "encoder=pool:huge/simclr/0"], "scale: expected one of"),
    # images that are missing, damaged, of one class, of several sizes
    ([*RUN, "datasets=cifar11"], "name: expected a known set"),
    ([*RUN, "datasets=photos"], "name: expected a known set"),
    ([*RUN, "datasets=folder:absent"], "datasets: expected folder: and a path that exists"),
    ([*RUN, "datasets=folder:nothing"], "nothing: expected"),
    ([*RUN, "datasets=folder:hollow"], "hollow"),
    ([*RUN, "datasets=folder:one"], "datasets: expected images of at least two classes"),
    ([*RUN, "datasets=folder:sizes"], "or size=…, which brings all to one size"),
    ([*RUN, "datasets=folder:broken"], "0.png: expected a readable picture"),
    ([*RUN, "datasets=folder:fine.npz"], "expected a folder"),
    ([*RUN, "datasets=npz:absent.npz"], "datasets: expected npz: and a path that exists"),
    ([*RUN, "datasets=npz:text.npz"], "text.npz"),
    ([*RUN, "datasets=npz:unlabelled.npz"], "unlabelled.npz"),
    ([*RUN, "datasets=npz:short.npz"], "short.npz"),
    ([*RUN, "datasets=npz:single.npz"], "datasets: expected images of at least two classes"),
    ([*RUN, "datasets=npz:objects.npz"], "objects.npz"),
    ([*RUN, "datasets=npz:flat.npz"], "flat.npz"),
    ([*RUN, "datasets=npz:many.npz"], "many.npz"),
    ([*RUN, "datasets=npz:grey.npz"], "datasets: expected images of 3 channels, got 1"),
    ([*RUN, "datasets=digit-scenes:backgrounds=-1"], "backgrounds: expected"),
    ([*RUN, "datasets=digit-scenes:backgronds=3"], "backgronds"),
    ([*RUN, "datasets=digit-scenes:seed=x"], "name: expected seed=NUMBER"),
    # places that can't be written to
    (["run", "separability", "--out", "fine.npz"], "--out: expected a folder that can be written to"),
    (["run", "separability", "--out", "fine.npz/below"], "--out: expected a folder that can be written to"),
    # sweeps, pretraining, pools, files
    (["sweep", "separability", "-g", "probe_epochs=4", "-g", "probe_epochs=8"], "-g: expected each name once"),
    (["sweep", "separability", "-g", "size=4,8", "-p", "size=6"], "names that -g does not vary"),
    (["sweep", "separability", "-g", "width="], "-g: expected NAME=A,B,C"),
    (["sweep", "separability", "-g", "probe_epochs=4,four"], "probe_epochs: expected a valid integer"),
    (["sweep", "separability", "-g", "profile=quick,smal"], "did you mean 'small'"),
    (["sweep", "separability", "-g", "profile=quick,quick"], "-g: expected each value once"),
    (["sweep", "separability", "-g", "profile=quick", "--profile", "small"], "--profile: expected names that -g does"),
    (["sweep", "separability", "-g", "profile=published,quick", "-p", "size=4"], "no other parameter with 'published'"),
    (["sweep", "separability", "-g", "size=8,16", "--out", "fine.npz"], "--out: expected a folder that can be written"),
    (["sweep", "all", "-g", "size=8"], "study: expected one of"),
    (["pretrain", "--out", "photos"], "--out: expected a file, got the folder photos"),
    (["pretrain", "--learning-rate", "-1"], "learning_rate: expected a finite value"),
    (["pretrain", "--learning-rate", "nan"], "learning_rate: expected a finite value"),
    (["pretrain", "--epochs", "0"], "epochs: expected"),
    (["pretrain", "--batch-size", "1"], "batch_size: expected"),
    (["pretrain", "--width", "0"], "width: expected at least 1"),
    (["pretrain", "--objective", "simcrl"], "'simcrl' is not one of"),
    (["pretrain", "-o", "temprature=0.1"], "temperature"),
    (["pretrain", "-o", "temperature=-1"], "temperature: expected"),
    (["pretrain", "-o", "temperature=["], "value: expected what YAML can read"),
    (["pretrain", "--dataset", "folder:absent"], "expected a folder"),
    (["pretrain", "--dataset", "folder:broken"], "0.png: expected a readable picture"),
    (["pretrain", "--limit", "0"], "limit: expected"),
    (["pretrain", "--out", "log.jsonl"], "--out: expected a name for the checkpoint"),
    (["pool", "train", "--scale", "quick", "simclr/7"], "member of the pool 'quick'"),
    (["pool", "train", "--scale", "quick", "simcrl/0"], "did you mean 'simclr/0'"),
    (["encoder", "text.pt"], "checkpoint text.pt: expected a whole file"),
    (["encoder", "other.pt"], "checkpoint: expected a ResNet's parameters"),
    (["encoder", "fine.pt?arch=resnet50"], "checkpoint: expected"),
    (["encoder", "torchvision:resnet"], "spec: expected a model that torchvision"),
    (["encoder", "pool:huge/simclr/0"], "scale: expected one of"),
    (["encoder", "other:fine.pt"], "spec: expected 'resnet18'"),
    (["encoder", "absent.pt"], "checkpoint: expected a file"),
]


def test_there_are_a_hundred_and_none_twice() -> None:
    assert len(CASES) >= 100 and len({tuple(arguments) for arguments, _ in CASES}) == len(CASES)


def contents(at: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in at.rglob("*") if ".decoded" not in p.parts}


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=[" ".join(arguments) for arguments, _ in CASES])
def test_what_can_not_be_used_is_one_line_and_nothing_is_done(
    hostile: Path, arguments, message, capsys, monkeypatch, tmp_path
) -> None:
    def no_work(*_: object, **__: object) -> None:
        raise AssertionError("something was executed or trained")

    monkeypatch.chdir(hostile)
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SSLNB_DATA", str(tmp_path / "data"))
    for place, name in ((runner, "execute"), (pool_training, "_on_dask")):
        monkeypatch.setattr(place, name, no_work)
    before = contents(hostile)
    status = cli.main(arguments)
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line and "it/s" not in line]
    assert status in (1, 2) and message in error
    assert len(lines) == 1 and lines[0].startswith("sslnb ")
    assert contents(hostile) == before and not list((tmp_path / "cache").rglob("*.pt"))


def test_a_cache_that_can_not_be_written_to_is_refused(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path / "file" / "cache"))
    assert cli.main(["run", "separability", "--out", str(tmp_path / "out")]) == 1
    assert "SSLNB_CACHE: expected a folder that can be written to" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a #b", "key: value", "007", "x, y", "null", "[1]", "e1", "~tilde", "true"])
def test_paths_mean_what_they_say(name: str, tmp_path, monkeypatch) -> None:
    """What YAML would cut, split or convert; the encoder and the images arrive under their own names."""
    monkeypatch.chdir(tmp_path)
    save_encoder(untrained(0, width=4), tmp_path / f"{name}.pt")
    for k in range(12):
        picture(tmp_path / name / "ab"[k % 2] / f"{k}.png", seed=k)
    seen = {}
    monkeypatch.setattr(runner, "execute", lambda source, target, values, **_: seen.update(values) or target)
    given = ["-p", f"encoder=checkpoint:{name}.pt", "-p", f"datasets=folder:{name}", "-p", "test_limit=all"]
    assert cli.main(["run", "separability", *given, "--out", "out"]) == 0
    assert seen["encoder"] == f"checkpoint:{name}.pt" and seen["test_limit"] == "all"
    checked = runner.studies.parameters("separability", **{k: v for k, v in seen.items() if k != "result_path"})
    assert checked.datasets == (f"folder:{name}",) and checked.test_limit is None and checked.asked("test_limit")
    assert not (tmp_path / "out" / "separability.ipynb").exists()


def test_the_word_for_all_studies_images_reaches_a_notebook_as_its_own(tmp_path, monkeypatch) -> None:
    seen = {}
    monkeypatch.setattr(runner, "execute", lambda source, target, values, **_: seen.update(values) or target)
    runner.run_notebook("separability", {"dataset": "cifar10"}, tmp_path)
    runner.run_notebook("contrastive_geometry", {"dataset": "stl10"}, tmp_path)
    runner.run_notebook("cka", {"dataset": "cifar100"}, tmp_path)
    names = {"datasets": "cifar10", "target": "stl10", "dataset": "cifar100"}
    assert {name: value for name, value in seen.items() if name != "result_path"} == names


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("limit", ["4", 2.5, True, 0, -1]),
        ("at_most", ["4", 2.5, True, 0, -1]),
        ("size", ["32", 2.5, True, 0]),
        ("seed", ["4", 2.5, True, None, 2**70]),
        ("root", [3, b"here"]),
        ("split", [3, None, ["train"], "tran"]),
        ("classes", ["dog", 3, [], ["0", "0"], [1.5]]),
        ("name", [3, None, "", b"digit-scenes"]),
    ],
)
def test_an_argument_of_another_kind_is_refused_by_its_name(argument: str, values: list) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"^{argument}: expected"):
            load(**({"name": "digit-scenes"} | {argument: value}))
