import copy

import pytest
import torch

from sslnb.core import device
from sslnb.encoders import resnet


def test_the_best_device_exists_and_computes():
    on = device.best_device()
    assert float(torch.ones(3, device=on).sum()) == 3
    assert device.best_precision(on) in ("bf16", "float32")


def test_autocast_casts_only_for_bf16():
    x = torch.ones(4, 4)
    with device.autocast(torch.device("cpu"), "bf16"):
        assert (x @ x).dtype == torch.bfloat16
    with device.autocast(torch.device("cpu"), "float32"):
        assert (x @ x).dtype == torch.float32
    with pytest.raises(ValueError, match="precision: expected 'bf16' or 'float32', got 'fp16'"):
        device.autocast(torch.device("cpu"), "fp16")


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [({}, "float32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True}, "float32")],
)
def test_a_cpu_gets_bf16_where_it_computes_in_it(monkeypatch, capabilities, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert device.best_precision(torch.device("cpu")) == precision


def test_hardware_is_described_in_plain_values():
    facts = device.describe()
    assert facts["cores"] >= 1 and facts["torch_threads"] == torch.get_num_threads()
    assert all(isinstance(value, str | int) for value in facts.values()) and facts["cpu"]


@pytest.mark.parametrize("width", [4, 16])
def test_gradients_in_the_layout_of_training_are_right(width):
    """Of a network with strided pointwise convolutions; in channels last, four channels wide, AVX2 has wrong ones."""
    torch.manual_seed(0)
    narrow, x = resnet(18, width=width, stem="imagenet"), torch.rand(8, 3, 32, 32)
    exact = copy.deepcopy(narrow).double()
    layout = device.training_layout(narrow, torch.device("cpu"))
    narrow.to(memory_format=layout)(x.contiguous(memory_format=layout)).square().sum().backward()
    exact(x.double()).square().sum().backward()
    for ours, right in zip(narrow.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, right.grad.float(), rtol=1e-2, atol=1e-3 * float(right.grad.abs().max()))


@pytest.mark.parametrize(("vectors", "narrow"), [("AVX2", 8), ("AVX512", 16)])
def test_the_layout_of_training_is_channels_last_where_that_is_sound(monkeypatch, vectors, narrow):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    for channels in (narrow - 1, narrow):
        strided, plain = (torch.nn.Conv2d(channels, 32, 1, stride) for stride in (2, 1))
        sound = torch.channels_last if channels == narrow else torch.contiguous_format
        assert device.training_layout(torch.nn.Sequential(plain, strided), torch.device("cpu")) == sound
        assert device.training_layout(plain, torch.device("cpu")) == torch.channels_last
        assert device.training_layout(strided, torch.device("cuda")) == torch.channels_last
