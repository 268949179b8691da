import pytest
import torch
import torchvision

from sslnb import cli
from sslnb.cli.options import value_of
from sslnb.encoders import load_encoder, save_encoder
from sslnb.encoders.resnet import untrained


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("1e-3", 0.001), ("true", True), ("null", None), ("[a, b]", ["a", "b"]), ("stem", "stem")],
)
def test_values_mean_what_they_spell(text, value):
    assert value_of(text) == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "separabilty"], "did you mean 'separability'"),
        (["run", "separability", "-p", "probe_epoch=3"], "did you mean 'probe_epochs'"),
        (["run", "separability", "-p", "probe_epochs=three"], "probe_epochs: expected a valid integer"),
        (["run", "separability", "-p", "attack_steps=0"], "attack_steps: expected at least 1"),
        (["run", "separability", "-p", "size=0"], "size: expected at least 1"),
        (["run", "separability", "-p", "epochs"], "-p: expected NAME=VALUE"),
        (["run", "separability", "--profile", "published", "-p", "size=4"], "no other parameter with 'published'"),
        (["sweep", "separability", "-g", "width=4", "-g", "width=8"], "each name once"),
        (["sweep", "separability", "-g", "size=4,8", "-p", "size=6"], "names that -g does not vary"),
        (["sweep", "separability", "-g", "width="], "-g: expected NAME=A,B,C"),
        (["pretrain", "--out", "x.pt", "--learning-rate", "-1"], "learning_rate: expected a finite value"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_any_work(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith(f"sslnb {arguments[0]}: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], "sslnb: No such command 'runn'"),
        (["run"], "sslnb run: Missing argument 'STUDY'"),
        (["pretrain", "--widt", "4"], "--width"),
        (["pretrain", "--width", "four"], "'four' is not a valid integer"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_help_lists_commands_and_the_defaults_of_options(capsys):
    assert cli.main(["--help"]) == 0 and cli.main(["pretrain", "-h"]) == 0
    printed = capsys.readouterr().out
    assert "sweep" in printed and "[default: 0.2]" in printed


def test_studies_are_listed_with_their_parameters(capsys):
    assert cli.main(["studies"]) == 0
    listed = capsys.readouterr().out
    assert "separability" in listed and "attack_steps = 50" in listed


def test_a_checkpoint_is_described(capsys, tmp_path):
    body = torchvision.models.resnet18(weights=None)
    state = {f"module.encoder_q.{name}": value for name, value in body.state_dict().items()}
    torch.save({"state_dict": state | {"module.queue": torch.zeros(2)}}, tmp_path / "moco.pth")
    assert cli.main(["encoder", str(tmp_path / "moco.pth")]) == 0
    told = capsys.readouterr().out
    assert "resnet18, imagenet stem, 3 channels: 120 tensors under state_dict" in told and "as MoCo has it" in told
    assert "module.queue (1)" in told and "module.encoder_q (2)" in told
    save_encoder(untrained(0, width=4), tmp_path / "ours.pt")
    assert cli.main(["encoder", str(tmp_path / "ours.pt")]) == 0
    assert "written by this package" in capsys.readouterr().out
    (tmp_path / "notes.pth").write_text("no checkpoint")
    assert cli.main(["encoder", str(tmp_path / "notes.pth")]) == 1
    assert "expected a whole file of plain tensors" in capsys.readouterr().err


def told(spec: str, capsys) -> tuple[int, str, str]:
    status = cli.main(["encoder", spec])
    out, error = capsys.readouterr()
    return status, out, error


def test_a_description_takes_every_form_of_an_encoders_name(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_encoder(untrained(0, width=4, in_channels=1), tmp_path / "grey.pt")
    (tmp_path / "own.py").write_text(
        "from sslnb.encoders.resnet import untrained\n\ndef small():\n    return untrained(0, width=4)\n"
    )
    for spec, channels in (("grey.pt", 1), ("checkpoint:grey.pt", 1), ("python:own.py:small", 3), ("resnet18", 3)):
        status, out, _ = told(spec, capsys)
        assert status == 0 and f"takes: {channels} channels, from 1 px" in out
        assert "normalises: by the mean 0.5" in out and "features" in out and "layer2.0.residual" in out
    body = torchvision.models.resnet18(weights=None)
    torch.save(body.state_dict(), tmp_path / "plain.pth")
    assert "by the mean 0.485" in told("plain.pth", capsys)[1]
    out = told("plain.pth?normalisation=cifar", capsys)[1]
    assert "by the mean 0.4914" in out and "gives: 512 features" in out and "made for 224 px" in out


def test_what_a_study_would_refuse_is_refused_in_the_same_words_after_what_is_missing(capsys, tmp_path):
    state = torchvision.models.resnet18(weights=None).state_dict()
    gap = {name: value for name, value in state.items() if "layer3.1.bn2" not in name}
    shape = state | {"layer1.0.conv1.weight": torch.zeros(64, 2, 3, 3)}
    more = state | {"layer1.0.extra": torch.zeros(2)}
    files = {"gap": gap, "shape": shape, "more": more, "other": {"weights": torch.zeros(2)}}
    for name, tensors in files.items():
        torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / f"{name}.pth")
    expected = {
        "gap": "missing: layer3.1.bn2.bias, layer3.1.bn2.running_mean, layer3.1.bn2.running_var, layer3.1.bn2.weight",
        "shape": "of another shape: layer1.0.conv1.weight [64, 2, 3, 3], not [64, 64, 3, 3]",
        "more": "of no parameter: layer1.0.extra",
        "other": "holds: state_dict.weights (1)",
        "gap.pth?arch=resnet50": "holds: state_dict.conv1 (1), state_dict.bn1 (5)",
        "more.pth?colour=red": "prefix ''",
        "absent": "",
    }
    for name, text in expected.items():
        path = tmp_path / (name if "?" in name else f"{name}.pth")
        status, out, error = told(str(path), capsys)
        with pytest.raises(ValueError, match=r"\w") as refused:
            load_encoder(f"checkpoint:{path}")
        assert status == 1 and error == f"sslnb encoder: {refused.value}\n" and text in out and "takes:" not in out
