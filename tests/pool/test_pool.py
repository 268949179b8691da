"""The pool: members, their training on Dask, the store, and what it says when something is missing or damaged."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from sslnb.cli import pool as pool_commands
from sslnb.core import cluster, device
from sslnb.data import load
from sslnb.encoders import load_encoder
from sslnb.encoders.encoder import weights_checksum
from sslnb.pool import Pool, members, runs, scales, store, train
from sslnb.pool.members import Member, Scale, Variant

TINY = """
from sslnb.pool import members, scales
from sslnb.pool.members import Scale, Variant

shared = {"width": 2, "stem": "imagenet", "epochs": 3, "batch_size": 32, "flip": 0.0, "crop_scale": 0.5}
scales.SCALES["tiny"] = Scale(
    "tiny", "digit-scenes", shared, view_size=16, limit=100, halvings=1,
    variants={
        "simclr": Variant(2, options={"temperature": 0.2}),
        "wide": Variant(1, "supervised", {"width": 4}, {"view_size": None}, dense_epochs=1),
        "hopeless": Variant(1, "supervised", {"learning_rate": 1e30}),
    },
)
"""
# Run in processes of its own; workers learn of the scale from the script that they are spawned from.
TRAIN = (
    TINY
    + """
import sys
from sslnb.pool import train
if __name__ == "__main__":
    train.train("tiny", workers=2)
"""
)


@pytest.fixture
def places(tmp_path, monkeypatch) -> Path:
    """A cache and an export folder of the test's own, and the scale ``tiny``."""
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SSLNB_POOL", str(tmp_path / "encoders"))
    monkeypatch.setattr(scales, "SCALES", dict(scales.SCALES))
    exec(TINY)
    return tmp_path


def trained(*names: str) -> None:
    for name in names:
        runs.run(members.scale("tiny").member(name))


def test_a_scale_names_its_members_and_what_each_changes() -> None:
    scale = members.Scale(
        "s",
        "digit-scenes",
        {"width": 4, "epochs": 8},
        {"simclr": members.Variant(2, options={"temperature": 0.3})},
        view_size=20,
    )
    assert list(scale.members) == ["simclr/0", "simclr/1"]
    config = scale.member("simclr/1").config
    assert (config.width, config.seed, config.options) == (4, 1, {"view_size": 20, "temperature": 0.3})
    with pytest.raises(ValueError, match="did you mean 'simclr/1'"):
        scale.member("simclr/11")


def test_encoders_are_kept_at_halvings_of_the_first_seed_and_at_every_quarter_epoch_asked_for(places) -> None:
    scale = members.scale("tiny")
    assert scale.member("simclr/0").kept_steps(100) == (4, 9)  # of three epochs of three steps, a half rounded down
    assert scale.member("simclr/1").kept_steps(100) == (9,)
    assert scale.member("wide/0").kept_steps(100) == (1, 2, 3, 4, 9)


@pytest.mark.parametrize("name", sorted(scales.SCALES))
def test_every_planned_configuration_is_valid_and_every_name_its_own(name) -> None:
    plan = members.scale(name)
    assert len(plan.members) == sum(variant.seeds for variant in plan.variants.values())


def test_encoders_come_by_name_rounded_as_the_shipped_files_are(places) -> None:
    trained("simclr/0", "wide/0")
    pool = Pool("tiny")
    assert pool.members() == tuple(pool) == ("simclr/0", "wide/0") and pool.seeds("simclr") == (0,)
    encoder = pool.encoder("simclr", 0)
    for value in encoder.state_dict().values():
        assert not value.is_floating_point() or torch.equal(value, value.half().float())
    assert not encoder.training
    from_cache = weights_checksum(encoder)
    train.export("tiny")
    assert weights_checksum(Pool("tiny").encoder("simclr", 0)) == from_cache
    assert weights_checksum(load_encoder("pool:tiny/simclr/0")) == from_cache
    assert pool.steps("simclr") == (4, 9) and pool.steps("wide") == (1, 2, 3, 4, 9)
    early = weights_checksum(load_encoder("pool:tiny/simclr/0@4"))
    assert early != from_cache and weights_checksum(pool.encoder("simclr", step=4)) == early
    assert pool.encoder("wide").spec["width"] == 4


def test_what_ships_stays_valid_without_the_cache_and_says_where_it_comes_from(places, monkeypatch, capsys) -> None:
    trained("wide/0")
    train.export("tiny", steps=True)
    monkeypatch.setenv("SSLNB_CACHE", str(places / "empty"))
    runs.checkpoint.cache_clear()
    pool = Pool("tiny")
    assert pool.members() == ("wide/0",) and pool.encoder("wide", step=3)
    entry = pool.entry("wide/0")
    assert entry.step == 9 and entry.seconds > 0 and len(entry.history["loss"]) == 3
    assert entry.config["objective"] == "supervised" and set(entry.accuracy) == {"knn", "linear"}
    assert {"command", "commit", "hardware", "versions"} <= entry.provenance.keys()
    assert pool.floor()["pixels"] > 0
    monkeypatch.setattr(Member, "images", lambda *_: pytest.fail("what ships is listed without the images"))
    assert Pool("tiny").members() == ("wide/0",)
    (places / "empty" / "encoders").mkdir(parents=True)  # of other objectives, and of other sets
    for other in ("moco-digit-scenes-00.pt", "simclr-cifar10-00-9.json", "simclr-digit-scenes2-00.json"):
        (places / "empty" / "encoders" / other).write_text("")
    assert Pool("tiny").members() == ("wide/0",) and Pool("tiny").steps("wide") == (1, 2, 3, 4, 9)
    assert load_encoder("pool:tiny/wide/0@4").spec["width"] == 4

    def gone(*_: object) -> None:
        raise RuntimeError("digit-scenes: the download failed")

    monkeypatch.setattr(Member, "images", gone)  # of a run of its own, which only its images tell from others
    (places / "empty" / "encoders" / "simclr-digit-scenes-00-9.json").write_text("")
    assert Pool("tiny").members() == ("wide/0",)
    states = {row["member"]: row for row in train.status("tiny")}
    assert states["wide/0"]["state"] == "exported" and "hours left" not in states["simclr/0"]
    assert states["simclr/0"]["state"] == "its images are not here"
    assert capsys.readouterr().err.endswith("pool tiny: digit-scenes: the download failed\n")
    assert "its images are not here  hours not known" in pool_commands._trained(states["simclr/0"])
    with pytest.raises(RuntimeError, match="the download failed"):
        train.train("tiny")
    monkeypatch.setattr(Member, "images", lambda _, split="train": load("digit-scenes", split, limit=90))
    with pytest.raises(ValueError, match="pool: tiny/wide/0: expected training on 90 images of digit-scenes"):
        Pool("tiny").floor()


def test_controls_are_the_weights_it_began_with_and_the_image_itself(places) -> None:
    trained("simclr/1")
    pool, images = Pool("tiny"), load("digit-scenes", limit=10).images.float() / 255
    untrained = [weights_checksum(pool.encoder("untrained", seed)) for seed in (0, 1)]
    assert len({*untrained, weights_checksum(pool.encoder("simclr", 1))}) == 3
    torch.testing.assert_close(pool.encoder("pixels")(images), images.flatten(1))


def test_a_run_that_diverges_is_described_and_the_rest_goes_on(places) -> None:
    trained("hopeless/0", "wide/0")
    train.export("tiny")
    pool = Pool("tiny")
    assert pool.members() == ("wide/0",) and "finite" in pool.entry("hopeless/0").reason
    with pytest.raises(
        ValueError, match=r"pool: hopeless/0: expected an encoder that has trained to its end, got .*finite"
    ):
        pool.encoder("hopeless")
    states = {row["member"]: row["state"] for row in train.status("tiny")}
    assert states["hopeless/0"].startswith("stopped: ") and states["wide/0"] == "exported"
    assert states["simclr/0"] == "not begun"


def spoiled(monkeypatch, spoil) -> None:
    """From now on the encoders that are trained are changed before they are kept."""
    whole = runs.pretrain

    def changed(*given, **named):
        training = whole(*given, **named)
        with torch.no_grad():
            spoil(training.encoder)
        return training

    monkeypatch.setattr(runs, "pretrain", changed)


def test_what_float16_does_not_hold_is_kept_as_it_is(places, monkeypatch) -> None:
    def variance(encoder: torch.nn.Module) -> torch.Tensor:
        return next(value for name, value in encoder.state_dict().items() if name.endswith("running_var"))

    spoiled(monkeypatch, lambda encoder: variance(encoder).fill_(1e6 + 1))
    trained("wide/0")
    train.export("tiny")
    encoder = Pool("tiny").encoder("wide", 0)
    assert (variance(encoder) == 1e6 + 1).all()
    weight = next(encoder.parameters())
    assert torch.equal(weight, weight.half().float())  # the rest is rounded


def test_weights_that_are_not_finite_are_described_and_not_trained_again(places, monkeypatch) -> None:
    spoiled(monkeypatch, lambda encoder: next(encoder.parameters()).fill_(float("inf")))
    trained("wide/0")
    assert "its encoder is of no use" in Pool("tiny").entry("wide/0").reason and not Pool("tiny").members()
    monkeypatch.setattr(runs, "pretrain", lambda *_, **__: pytest.fail("trained again"))
    assert train.train("tiny", only=["wide/0"]) == {}


def test_on_an_accelerator_a_run_that_fails_stops_no_other(places, monkeypatch) -> None:
    there = SimpleNamespace(best_device=lambda: torch.device("meta"), describe=device.describe)
    monkeypatch.setattr(train, "device", there)
    whole, began = runs.run, []

    def run(member: Member, on_step=None):
        began.append(member.name)
        if member.name == "simclr/0":
            raise ValueError("images: expected colours, got none")
        return whole(member, on_step)

    monkeypatch.setattr(runs, "run", run)
    with pytest.raises(ValueError, match=r"^pool tiny: expected runs that .* got simclr/0: images: expected"):
        train.train("tiny", only=["simclr/0", "wide/0"])
    assert set(began) == {"simclr/0", "wide/0"} and Pool("tiny").members() == ("wide/0",)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pool:tiny/simclr", "spec: expected pool:SCALE/VARIANT/SEED"),
        ("pool:tiny/simclr/one", "spec: expected pool:SCALE/VARIANT/SEED"),
        ("pool:tiny/simclr/0@last", "spec: expected pool:SCALE/VARIANT/SEED"),
        ("pool:tiny/simclr/0@", "spec: expected pool:SCALE/VARIANT/SEED"),
        ("pool:tiny/simclr/\u00b2", "spec: expected pool:SCALE/VARIANT/SEED"),
        ("pool:tinny/simclr/0", "did you mean 'tiny'"),
        ("pool:tiny/simclrr/0", "did you mean 'simclr/0'"),
        ("pool:tiny/simclr/0", r"sslnb pool train --scale tiny makes it\), got not begun"),
    ],
)
def test_names_that_are_not_there_are_refused_with_the_nearest_or_the_command(places, spec, message) -> None:
    with pytest.raises(ValueError, match=message):
        load_encoder(spec)


def test_a_half_trained_member_says_how_far_it_is(places) -> None:
    member = members.scale("tiny").member("simclr/1")

    def interrupt(step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("sslnb.training.loop.SAVE_EVERY_S", 0.0)
        runs.run(member, interrupt)
    with pytest.raises(ValueError, match=r"got step [1-5] of 9"):
        Pool("tiny").encoder("simclr", 1)
    trained("simclr/1")
    assert Pool("tiny").encoder("simclr", 1)


def exported(places: Path) -> Path:
    trained("wide/0")
    train.export("tiny")
    return places / "encoders" / "tiny"


def test_a_damaged_file_is_named(places) -> None:
    folder = exported(places)
    (folder / "wide-0.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"pool: wide/0: expected the file with SHA-256 .*wide-0\.safetensors"):
        Pool("tiny").encoder("wide")
    (folder / "wide-0.safetensors").unlink()
    with pytest.raises(ValueError, match="pool: wide/0: expected its file, got none at"):
        Pool("tiny").encoder("wide")


@pytest.mark.parametrize("change", [{"format": 2}, {"entries": {"wide/0": {"file": 3}}}, "not JSON"])
def test_a_list_of_another_format_is_refused_in_one_line(places, change) -> None:
    path = exported(places) / store.MANIFEST
    path.write_text(change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"pool\.json: expected a pool of format 1, got") as error:
        Pool("tiny")
    assert "\n" not in str(error.value)


def test_files_of_another_pool_are_no_members_of_this_one(places) -> None:
    folder = exported(places)
    with pytest.raises(ValueError, match=r"^pool: expected encoders of 'quick' in .*, got those of 'tiny'$"):
        train.export("quick", folder=folder)
    with pytest.raises(ValueError, match=r"^scale: expected .* finished encoders, got 'pilots', which has none$"):
        train.export("pilots", folder=places / "none")
    assert not (places / "none").exists()


def test_a_step_that_was_not_kept_names_those_that_were(places) -> None:
    exported(places)
    with pytest.raises(ValueError, match=r"^pool: tiny/wide/0@5: expected a step at which it was kept: .*9, got 5$"):
        Pool("tiny").encoder("wide", step=5)


def test_weights_that_are_not_of_the_described_network_are_one_line(places) -> None:
    path = exported(places) / store.MANIFEST
    facts = json.loads(path.read_text())
    facts["entries"]["wide/0"]["spec"]["width"] = 3
    path.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"^pool: wide/0: expected weights of .*'width': 3.*, got: ") as error:
        Pool("tiny").encoder("wide")
    assert "\n" not in str(error.value)


def test_a_full_disk_while_exporting_leaves_the_pool_as_it_was(places, monkeypatch) -> None:
    folder = exported(places)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    trained("simclr/0")

    def full(path: Path) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "sha256", full)
    with pytest.raises(OSError, match="No space left"):
        train.export("tiny")
    monkeypatch.undo()
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: after[name] for name in before} == before and not [name for name in after if "partial" in name]


def test_only_one_process_trains_a_pool(places) -> None:
    with (
        train._exclusive("tiny"),
        pytest.raises(ValueError, match=r"pool tiny: expected to be the only .* got: process \d+ on "),
    ):
        train.train("tiny")
    with train._exclusive("tiny"):
        pass  # free again


FAILING = """
from sslnb.pool import runs
if __name__ == "__mp_main__":  # in a worker
    whole = runs.run
    def run(member, on_step):
        if member.config.objective == "simclr":
            raise ValueError("images: expected colours, got none")
        return whole(member, on_step)
    runs.run = run
"""


def test_a_run_that_fails_is_named_after_the_others_are_done(places) -> None:
    process = start(places, "cache", TRAIN + FAILING, stderr=subprocess.PIPE)
    errors = process.communicate()[1].decode()
    said = next(
        line for line in errors.splitlines() if line.startswith("ValueError: pool tiny: expected runs that can")
    )
    assert said.count("expected colours, got none") == 2 and Pool("tiny").members() == ("wide/0",)


def start(places: Path, name: str, text: str = TRAIN, stderr: int = subprocess.DEVNULL) -> subprocess.Popen:
    script = places / "train_tiny.py"
    script.write_text(text)
    environment = os.environ | {"SSLNB_CACHE": str(places / name), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(script)], env=environment, stderr=stderr, start_new_session=True)


def weights(places: Path, name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((places / name / "encoders").glob("*.safetensors"))}


def test_a_local_cluster_leaves_the_environment_as_it_was(monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with cluster.client(None, 1) as client:
        inside = client.submit(os.environ.get, "OMP_NUM_THREADS").result()
    assert inside == "1" and dict(os.environ) == before


def test_ten_kills_at_random_moments_change_no_bit(places) -> None:
    assert start(places, "whole").wait() == 0
    dice = random.Random(0)
    for kill in range(10):
        process = start(places, "killed")
        time.sleep(dice.uniform(4, 9))
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        with contextlib.suppress(psutil.NoSuchProcess):
            dice.choice(family).kill()
        if kill % 2:
            time.sleep(dice.uniform(0, 3))  # time for a worker to come back
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the whole family, as when a machine is lost
        process.wait()
    assert start(places, "killed").wait() == 0
    assert len(weights(places, "whole")) == 8
    assert weights(places, "killed") == weights(places, "whole")


def test_supervised_training_stops_where_it_is_as_accurate_as_simclr(places, monkeypatch) -> None:
    """Among the encoders that were kept, the nearest in validation accuracy; none where the nearest is far off."""
    monkeypatch.setenv("SSLNB_CACHE", str(places / "matched"))
    variants = {"supervised": Variant(1, dense_epochs=1), "simclr": Variant(1)}
    shared = {"width": 4, "stem": "imagenet", "epochs": 3, "batch_size": 50, "flip": 0.0, "crop_scale": 0.5}
    plan = Scale("matched", "digit-scenes", shared, variants, limit=200, halvings=0)
    monkeypatch.setitem(scales.SCALES, "matched", plan)
    pool = Pool("matched")
    with pytest.raises(ValueError, match=r"supervised_matched/0: expected a finished encoder .* got none that is as"):
        pool.encoder("supervised_matched")
    for member in plan.members.values():
        runs.run(member)
    places_of = {step: runs.find(plan.member("supervised/0"), step)[0] for step in (1, 2, 3, 4)}
    described = {step: runs._described(plan.member("supervised/0"), step) for step in places_of}
    goal = pool.entry("simclr/0").accuracy["linear"]
    for step, gap in {1: 0.05, 2: 0.01, 3: -0.05, 4: -0.015}.items():
        entry = json.loads(described[step].read_text())
        entry["accuracy"]["linear"] = goal + gap
        described[step].write_text(json.dumps(entry))
    assert pool.matched_steps() == {0: 2}
    assert pool.members() == ("supervised/0", "simclr/0", "supervised_matched/0") and pool.seeds(
        "supervised_matched"
    ) == (0,)
    same = weights_checksum(pool.encoder("supervised_matched")), weights_checksum(pool.encoder("supervised", 0, step=2))
    assert same[0] == same[1]
    exported = train.export("matched", folder=places / "exported")
    assert set(exported.entries) == {"supervised/0", "supervised/0@2", "simclr/0"}
    assert Pool("matched", folder=places / "exported").matched_steps() == {0: 2}
    entry = json.loads(described[2].read_text()) | {"accuracy": {"knn": 0.0, "linear": goal + 0.021}}
    described[4].write_text(json.dumps(entry))
    described[2].write_text(json.dumps(entry))
    assert pool.matched_steps() == {} and pool.members() == ("supervised/0", "simclr/0")
