import pytest
import torch

from sslnb.core import device


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
