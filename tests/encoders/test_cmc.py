"""CMC's two networks: the halves are given what PyContrast gives them, and a file is read whole or not at all."""

import pytest
import torch
import torchvision

from sslnb.encoders import load_encoder, save_encoder
from sslnb.encoders.cmc import CMC, cmc_from

# As skimage.color.rgb2ydbdr has it, which PyContrast calls.
YDBDR = [[0.299, 0.587, 0.114], [-0.450, -0.883, 1.333], [-1.333, 1.116, 0.217]]


@pytest.fixture(scope="module")
def state() -> dict[str, object]:
    """A file as PyContrast writes it, with random weights."""
    torch.manual_seed(0)
    tensors = {f"module.{name.removeprefix('model.')}": v for name, v in CMC().state_dict().items() if "model." in name}
    return {"model": tensors | {"module.head1.0.weight": torch.zeros(128, 1024)}, "epoch": 200}


def test_each_half_sees_its_channels_normalised_as_pycontrast_does(state) -> None:
    encoder, x = cmc_from(state), torch.rand(2, 3, 64, 64)
    converted = torch.einsum("ij,njhw->nihw", torch.tensor(YDBDR), x)
    channels = torchvision.transforms.functional.normalize(converted, (0.457, -0.082, -0.052), (0.500, 1.331, 1.333))
    with torch.no_grad():
        features = encoder(x)
        halves = encoder.model.encoder1(channels[:, :1]), encoder.model.encoder2(channels[:, 1:])
    torch.testing.assert_close(features, torch.cat(halves, 1), rtol=1e-3, atol=1e-3)
    assert encoder.feature_dim == 2048 and encoder.side == 224


def test_it_has_the_papers_number_of_parameters_and_is_saved_as_an_encoder_of_ours(state, tmp_path) -> None:
    encoder, x = cmc_from(state), torch.rand(1, 3, 64, 64)
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(12e6, rel=0.05)
    save_encoder(encoder, tmp_path / "cmc.pt")
    with torch.no_grad():
        assert torch.equal(load_encoder(f"checkpoint:{tmp_path / 'cmc.pt'}")(x), encoder(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if "encoder2" not in k}, "expected all parameters of CMC's encoder2"),
        (lambda t: t | {"module.encoder1.layer5.0.conv1.weight": torch.zeros(2)}, "CMC's encoder1 alone, got also"),
        (lambda t: t | {"module.encoder1.bn1.weight": torch.zeros(32)}, "the shapes of CMC's encoder1, got others"),
    ],
)
def test_what_is_missing_or_too_much_is_refused(state, change, message) -> None:
    with pytest.raises(ValueError, match=message):
        cmc_from(state | {"model": change(state["model"])})
    with pytest.raises(ValueError, match="checkpoint: expected parameters under the key 'model', got"):
        cmc_from({"state_dict": {}})
