import json
import math

import pytest
import torch

from sslnb.data.images import ImageSet
from sslnb.training.journal import Journal, read
from sslnb.training.loop import PretrainConfig, pretrain

CPU = torch.device("cpu")
CONFIG = PretrainConfig("supervised", width=4, epochs=3, batch_size=8, precision="float32")


def toy() -> ImageSet:
    images = torch.randint(256, (16, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(images, torch.arange(16) % 4, tuple("abcd"), None, "toy")


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_first_line_says_what_is_run_and_every_epoch_adds_one(tmp_path):
    log = tmp_path / "folder" / "run.jsonl"
    run = pretrain(CONFIG, toy(), held_out=toy(), log=log, on=CPU)
    first, *epochs = lines(log)
    assert isinstance(first["command"], str) and first["processes"] == 1 and first["step"] == 0
    assert first["config"]["objective"] == "supervised" and first["config"]["learning_rate"] == 0.1  # as resolved
    assert first["data"] == {"name": "toy", "images": 16, "checksum": toy().checksum()}
    assert {"python", "torch", "torchvision"} <= set(first["versions"]) and first["hardware"]["cores"] >= 1
    assert [line["epoch"] for line in epochs] == [1, 2, 3] and [line["step"] for line in epochs] == [2, 4, 6]
    assert [line["loss"] for line in epochs] == run.history["loss"]
    assert all(line["seconds"] >= line["looking"] >= 0 for line in epochs)
    seen = {"knn", "probe", "rankme", "deviation"}
    assert seen <= set(epochs[0]) and seen <= set(epochs[-1])  # the first and the last epoch are always looked at


def test_the_log_reads_back_as_the_history(tmp_path):
    run = pretrain(CONFIG, toy(), held_out=toy(), log=tmp_path / "run.jsonl", on=CPU)
    first, history = read(tmp_path / "run.jsonl")
    assert first["config"]["epochs"] == 3 and history["epoch"] == [1, 2, 3]
    for name, values in run.history.items():
        assert history[name] == pytest.approx(values, nan_ok=True)


def test_what_nobody_looked_at_is_left_out_and_reads_as_nan(tmp_path):
    log = tmp_path / "run.jsonl"
    journal = Journal(log)
    journal._write({"command": "sslnb pretrain"})
    journal.epoch(2, {"loss": [1.5], "knn": [0.25]})
    journal.epoch(4, {"loss": [1.5, 1.0], "knn": [0.25, math.nan]})
    assert "knn" not in lines(log)[2] and "NaN" not in log.read_text()
    history = read(log)[1]
    assert history["loss"] == [1.5, 1.0] and history["knn"] == pytest.approx([0.25, math.nan], nan_ok=True)


def test_a_resumed_run_appends_and_every_epoch_counts_once(tmp_path):
    path, log = tmp_path / "run.pt", tmp_path / "run.jsonl"
    whole = pretrain(CONFIG, toy(), on=CPU)
    for stop in (3, None):
        pretrain(CONFIG, toy(), checkpoint=path, log=log, on=CPU, stop_after=stop)
    commands = [line for line in lines(log) if "command" in line]
    assert [line["step"] for line in commands] == [0, 3]
    first, history = read(log)
    assert first == commands[0] and history["epoch"] == [1, 2, 3]
    assert history["loss"] == whole.history["loss"]
    before = log.read_text()
    assert pretrain(CONFIG, toy(), checkpoint=path, log=log, on=CPU).reused
    assert log.read_text() == before  # nothing was run


def test_an_epoch_that_is_done_again_counts_as_last_done(tmp_path):
    log = tmp_path / "run.jsonl"
    log.write_text(
        '{"command": "a", "step": 0}\n{"epoch": 1, "loss": 3.0}\n{"epoch": 2, "loss": 2.0}\n'
        '{"command": "b", "step": 2}\n{"epoch": 2, "loss": 2.5}\n{"epoch": 3, "loss": 1.0}\n{"stopped": "why"}\n'
    )
    first, history = read(log)
    assert first["command"] == "a" and history == {"epoch": [1, 2, 3], "loss": [3.0, 2.5, 1.0]}


def test_a_run_that_starts_anew_leaves_nothing_of_an_earlier_one_in_its_history(tmp_path):
    log = tmp_path / "run.jsonl"
    for seed, epochs in ((0, 3), (1, 1)):  # no checkpoint: the second is another run into the same file
        pretrain(PretrainConfig(**{**vars(CONFIG), "seed": seed, "epochs": epochs}), toy(), log=log, on=CPU)
    first, history = read(log)
    assert first["config"]["seed"] == 1 and history["epoch"] == [1]


def test_a_log_that_begins_with_a_resumed_run_has_its_epochs(tmp_path):
    path, log = tmp_path / "run.pt", tmp_path / "run.jsonl"
    pretrain(CONFIG, toy(), checkpoint=path, on=CPU, stop_after=4)
    pretrain(CONFIG, toy(), checkpoint=path, log=log, on=CPU)
    first, history = read(log)
    assert first["step"] == 4 and history["epoch"] == [3]


def test_why_a_run_stopped_is_its_last_line(tmp_path):
    log = tmp_path / "run.jsonl"
    config = PretrainConfig(**{**vars(CONFIG), "learning_rate": 1e30, "warmup": 0.0})
    run = pretrain(config, toy(), log=log, on=CPU)
    assert not run.converged and lines(log)[-1] == {"stopped": run.reason}


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_left_out(tmp_path, loss):
    journal = Journal(tmp_path / "run.jsonl")
    journal._write({"command": "sslnb pretrain"})
    journal.epoch(2, {"loss": [loss], "seconds": [1.0]})
    assert lines(tmp_path / "run.jsonl")[1] == {"epoch": 1, "step": 2, "seconds": 1.0}


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal = Journal(None)
    journal.begin(CONFIG, toy(), 0)
    journal.epoch(1, {"loss": [1.0]})
    journal.note("done")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a first line with the command, got \[\]"),
        (b'{"epoch": 1, "loss": 1.0}\n', "a first line with the command"),
        (b'{"command": "x"}\n{"epoch": 1, "lo', "expected JSON lines, got"),
        (b"loss 3.0\n", "expected JSON lines, got"),
        (b"\xff\xfe\x00", "expected JSON lines, got"),
        (b"3\n", "expected JSON lines of objects"),
        (b'{"command": "x"}\n[1, 2]\n', "expected JSON lines of objects"),
    ],
)
def test_a_damaged_log_is_refused_by_name(tmp_path, content, message):
    log = tmp_path / "damaged.jsonl"
    log.write_bytes(content)
    with pytest.raises(ValueError, match=rf"log .*damaged\.jsonl: .*{message}"):
        read(log)


def test_a_missing_log_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"log: expected a file, got .*none\.jsonl, which does not exist"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="log: expected a file"):
        read(tmp_path)
