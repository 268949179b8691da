"""A network of the user's own: the guide page's, trained by its own code, and one named by its file."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from sslnb import data
from sslnb.core import files
from sslnb.encoders import load_encoder, save_encoder
from sslnb.features import extract

PAGE = Path(__file__).resolve().parents[2] / "book" / "encoder.md"
CELLS = re.findall(r"```\{code-cell\} ipython3\n(?::tags: [^\n]*\n\n)?(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.skipif(not (files.data_root() / "cifar10.npz").is_file(), reason="needs cifar10.npz in SSLNB_DATA")
def test_the_guides_network_has_the_accuracy_that_its_own_code_gives(tmp_path) -> None:
    page: dict = {}
    for cell in CELLS[:2]:
        exec(cell, page)
    train, test = data.load("cifar10", "train", limit=2000), data.load("cifar10", "test", limit=2000)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = page["TheirResNet20"]()
        optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
        for rows in torch.randperm(len(train)).split(100) * 3:
            x = (train.images[rows].float() / 255 - mean) / std
            loss = nn.functional.cross_entropy(theirs(x), train.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.save({"state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "resnet20.th")
    theirs.eval()
    with torch.no_grad():
        x = (test.images.float() / 255 - mean) / std
        expected = torch.cat([theirs(part).argmax(1) for part in x.split(500)])
    state = torch.load(tmp_path / "resnet20.th", weights_only=True)["state_dict"]
    encoder = page["ResNet20"]()
    encoder.model.load_state_dict({k.removeprefix("module."): v for k, v in state.items() if "linear" not in k})
    save_encoder(encoder, tmp_path / "mine.pt")
    features = extract(load_encoder(f"checkpoint:{tmp_path / 'mine.pt'}"), test)
    found = (features @ state["module.linear.weight"].T + state["module.linear.bias"]).argmax(1)
    accuracy = float((found == test.labels).double().mean())
    assert accuracy == float((expected == test.labels).double().mean()) and accuracy > 0.2
    assert torch.equal(found, expected)


CODE = """
from torch import nn
from sslnb.encoders import Wrapped

class Mine(Wrapped):
    def __init__(self):
        layers = [nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(nn.Sequential(*layers), spec={"family": "Mine"}, mean=(0.5,) * 3, std=(0.2,) * 3, side=32)

def number():
    return 3

def broken():
    raise KeyError("x")
"""


def test_a_file_of_code_gives_its_encoder(tmp_path) -> None:
    (tmp_path / "a net.py").write_text(CODE)
    encoder = load_encoder(f"python:{tmp_path / 'a net.py'}:Mine")
    assert encoder.feature_dim == 5 and not encoder.training


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.py:Mine", r"spec: expected python:FILE\.py:NAME with a file that exists"),
        ("net.py", r"spec: expected python:FILE\.py:NAME"),
        ("net.py:", r"spec: expected python:FILE\.py:NAME"),
        ("net.py:Yours", r"spec: expected an encoder from Yours\(\) of net.py, got AttributeError"),
        ("net.py:number", r"spec: expected an Encoder from number\(\), got int"),
        ("net.py:broken", r"spec: expected an encoder from broken\(\) of net.py, got KeyError: 'x'"),
        ("net.txt:Mine", "spec: expected a file of Python code"),
    ],
)
def test_what_is_no_encoder_is_refused(name: str, message: str, tmp_path, monkeypatch) -> None:
    for file in ("net.py", "net.txt"):
        (tmp_path / file).write_text(CODE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_encoder(f"python:{name}")
