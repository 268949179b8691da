import pytest
import torch
import torchvision.transforms.v2.functional as reference
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from sslnb.views import rand_augment as module
from sslnb.views.rand_augment import GEOMETRIC, OPERATIONS, SIGNED, apply_operations, rand_augment, strengths

THEIRS = v2.RandAugment()
SPACE = THEIRS._AUGMENTATION_SPACE
ON_BYTES = ("Posterize", "AutoContrast", "Equalize")  # those that torchvision has another way for floats, or none


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bytes_of(n: int, height: int = 32, width: int = 32, channels: int = 3, seed: int = 0) -> Tensor:
    """Images [N,C,H,W] of noise around gradients, of many contrasts; the first are constant, black and white."""
    generator = seeded(seed)
    noise = torch.rand(n, channels, height, width, generator=generator)
    ramp = torch.linspace(0, 1, width) * torch.rand(n, channels, 1, 1, generator=generator)
    images = (0.7 * noise * torch.rand(n, 1, 1, 1, generator=generator) + 0.3 * ramp) * 255
    for i, value in enumerate((77, 0, 255)[:n]):
        images[i] = value
    return images.round().to(torch.uint8)


def by_torchvision(images: Tensor, name: str, strength: float) -> Tensor:
    return THEIRS._apply_image_or_video_transform(images, name, strength, InterpolationMode.NEAREST, THEIRS._fill)


def everywhere(images: Tensor, name: str, strength: float) -> Tensor:
    n = len(images)
    return apply_operations(images, torch.full((n,), OPERATIONS.index(name)), torch.full((n,), strength))


def signs(name: str) -> tuple[int, ...]:
    return (1, -1) if OPERATIONS.index(name) in SIGNED else (1,)


# The operations


def test_operations_and_which_of_them_are_signed_are_those_of_torchvision():
    assert tuple(SPACE) == OPERATIONS
    assert [OPERATIONS[i] for i in SIGNED] == [name for name, (_, signed) in SPACE.items() if signed]
    assert [OPERATIONS[i] for i in GEOMETRIC] == ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"]
    assert set(module.COLOUR) | {OPERATIONS[i] for i in GEOMETRIC} | {"Identity"} == set(OPERATIONS)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 64), (331, 662)])
@pytest.mark.parametrize(("bins", "magnitudes"), [(31, range(31)), (11, range(11)), (2, (0, 1))])
def test_strengths_are_those_of_torchvision(height, width, bins, magnitudes):
    for magnitude in magnitudes:
        found = strengths(magnitude, bins, height, width)
        assert tuple(found) == OPERATIONS
        for name, (levels_of, _) in SPACE.items():
            levels = levels_of(bins, height, width)
            expected = 0.0 if levels is None else float(levels[magnitude])
            assert found[name] == (int(expected) if name.startswith("Translate") else expected), name


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ON_BYTES])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 20)])
def test_operations_on_floats_equal_those_of_torchvision(name, height, width):
    images = torch.cat([bytes_of(6, height, width) / 255, torch.rand(6, 3, height, width, generator=seeded(1))])
    tolerance = 1e-4 if name in ("Color", "Contrast") else 1e-5  # torchvision weighs red by 0.2989, not 0.299
    for magnitude in (0, 9, 10, 30):
        for sign in signs(name):
            strength = sign * strengths(magnitude, 31, height, width)[name]
            before, found = images.clone(), everywhere(images, name, strength)
            assert torch.equal(images, before)
            expected = by_torchvision(images, name, strength)
            torch.testing.assert_close(found, expected, atol=tolerance, rtol=0, msg=f"magnitude {sign * magnitude}")


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    ("height", "width", "channels"), [(32, 32, 3), (16, 16, 3), (40, 28, 3), (24, 24, 1), (2, 2, 3)]
)
def test_operations_on_bytes_equal_those_of_torchvision_but_for_its_rounding(name, height, width, channels):
    images = bytes_of(12, height, width, channels)
    # It cuts off what is behind the point, in contrast and saturation also that of the luma, which is weighed 1.9 times
    tolerance = {"Contrast": 2, "Color": 2, "Brightness": 1, "Sharpness": 1.5, "AutoContrast": 1}.get(name, 0) + 1e-3
    for magnitude in (0, 9, 10, 30):
        for sign in signs(name):
            strength = sign * strengths(magnitude, 31, height, width)[name]
            found = everywhere(images / 255, name, strength)
            assert found.min() >= 0 and found.max() <= 1
            expected = by_torchvision(images, name, strength).float()
            torch.testing.assert_close(found * 255, expected, atol=tolerance, rtol=0, msg=f"{sign * magnitude}")


@pytest.mark.parametrize(
    ("name", "theirs"), [("AutoContrast", reference.autocontrast), ("Equalize", reference.equalize)]
)
def test_contrast_and_histogram_of_floats_between_the_bytes_are_those_of_torchvision(name, theirs):
    images = torch.rand(9, 3, 32, 32, generator=seeded(3)) ** torch.linspace(0.2, 5, 9).view(-1, 1, 1, 1)
    torch.testing.assert_close(everywhere(images, name, 0.0), theirs(images), atol=1e-6, rtol=0)


def test_posterizing_counts_in_bytes():
    images = torch.rand(9, 3, 8, 8, generator=seeded(3))
    bits = torch.tensor([8.0, 7, 6, 5, 4, 3, 2, 1, 0])
    found = module.posterize_(images.clone(), bits)
    theirs = reference.to_dtype(images, torch.uint8, scale=True)
    for image, b, posterized in zip(theirs, bits.int().tolist(), found, strict=True):
        torch.testing.assert_close(posterized * 255, reference.posterize(image, b).float(), atol=1e-4, rtol=0)


def test_every_image_gets_its_own_operation_and_strength():
    images, generator = bytes_of(80) / 255, seeded(1)
    operation = torch.randint(14, (80,), generator=generator)
    strength = torch.tensor(list(strengths(20, 31, 32, 32).values()))[operation]
    weaker = 0.5 + 0.5 * torch.rand(80, generator=generator)  # in no two images the same
    strength = torch.where(operation == OPERATIONS.index("Posterize"), strength, weaker * strength)
    strength = torch.where((operation < SIGNED.stop) & (torch.arange(80) % 2 == 0), -strength, strength)
    assert len(operation.unique()) == 14
    found = apply_operations(images, operation, strength)
    for i in range(80):
        alone = everywhere(images[i : i + 1], OPERATIONS[operation[i]], float(strength[i]))
        torch.testing.assert_close(found[i : i + 1], alone, atol=1e-6, rtol=0)


# The random transform


def recorded(monkeypatch) -> list[tuple[Tensor, Tensor]]:
    calls: list[tuple[Tensor, Tensor]] = []

    def record(images: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
        calls.append((operation, strength))
        return apply_operations(images, operation, strength)

    monkeypatch.setattr(module, "apply_operations", record)
    return calls


def test_operations_and_signs_are_drawn_uniformly_and_per_sample(monkeypatch):
    calls, images = recorded(monkeypatch), torch.zeros(7000, 3, 4, 4)
    rand_augment(images, generator=seeded(2))
    (first, strength), (second, _) = calls
    for operation in (first, second):
        assert stats.chisquare(torch.bincount(operation, minlength=14).numpy()).pvalue > 1e-3
    for a, b in ((first, second), (first[1:], first[:-1])):  # neither rounds nor neighbours share their draws
        assert stats.chisquare(torch.bincount(14 * a + b, minlength=196).numpy()).pvalue > 1e-3
    signed = (first >= SIGNED.start) & (first < SIGNED.stop)
    expected = torch.tensor(list(strengths(9, 31, 4, 4).values()))[first]
    assert torch.equal(strength.abs(), expected) and (strength[~signed] >= 0).all()
    for i in SIGNED:
        drawn = strength[first == i]
        if expected[first == i][0] > 0:
            assert stats.binomtest(int((drawn < 0).sum()), len(drawn), 0.5).pvalue > 1e-3


@pytest.mark.parametrize("num_ops", [0, 1, 3])
def test_num_ops_rounds_follow_each_other(monkeypatch, num_ops):
    calls, images = recorded(monkeypatch), bytes_of(40) / 255
    before = images.clone()
    found = rand_augment(images, num_ops=num_ops, magnitude=14, num_magnitude_bins=20, generator=seeded(3))
    assert len(calls) == num_ops and found.data_ptr() != images.data_ptr() and torch.equal(images, before)
    expected = images
    for operation, strength in calls:
        expected = apply_operations(expected, operation, strength)
        table = torch.tensor(list(strengths(14, 20, 32, 32).values()))
        assert torch.equal(strength.abs(), table[operation])
    assert torch.equal(found, expected)


def test_pixels_are_spread_as_by_torchvision():
    image = bytes_of(4, 12, 16, seed=5)[3]
    copies = image.expand(1500, -1, -1, -1)
    ours = rand_augment(copies / 255, generator=seeded(4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        theirs = torch.stack([THEIRS(image) for image in copies]) / 255
    statistics = {
        "mean": lambda x: x.mean((1, 2, 3)),
        "spread": lambda x: x.std((1, 2, 3)),
        "contrast between channels": lambda x: x.mean((2, 3)).std(1),
        "slope": lambda x: x[..., 8:].mean((1, 2, 3)) - x[..., :8].mean((1, 2, 3)),
        "roughness": lambda x: (x[..., 1:] - x[..., :-1]).square().mean((1, 2, 3)),
        "black": lambda x: (x == 0).float().mean((1, 2, 3)),
    }
    for name, statistic in statistics.items():
        a, b = statistic(ours), statistic(theirs)
        error = (a.var() / 1500 + b.var() / 1500).sqrt()
        rounding = 0 if name == "black" else 1 / 255  # torchvision, on bytes, cuts off what is behind the point
        assert (a.mean() - b.mean()).abs() < 3.5 * error + rounding, name
        assert abs(float(a.std() / b.std()) - 1) < 0.1, name


def test_the_same_generator_gives_the_same_images_and_the_global_one_is_left_alone():
    images, state = bytes_of(50) / 255, torch.get_rng_state()
    first = rand_augment(images, generator=seeded(5))
    assert torch.equal(rand_augment(images, generator=seeded(5)), first)
    assert not torch.equal(rand_augment(images, generator=seeded(6)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.dtype == torch.float32 and first.shape == images.shape
    assert first.min() >= 0 and first.max() <= 1
    copies = rand_augment(images[-1:].expand(100, -1, -1, -1), generator=seeded(7))
    assert len(copies.flatten(1).unique(dim=0)) > 60  # of at most 23² outcomes
    for n in (0, 1):
        assert rand_augment(images[:n], generator=seeded(8)).shape == (n, 3, 32, 32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: rand_augment(x, num_ops=-1), "num_ops: expected a value of at least 0, got -1"),
        (lambda x: rand_augment(x, magnitude=31), r"magnitude: expected a value in 0\.\.30, got 31"),
        (lambda x: rand_augment(x, magnitude=-1), r"magnitude: expected a value in 0\.\.30, got -1"),
        (lambda x: rand_augment(x, num_magnitude_bins=1), "num_magnitude_bins: expected a value of at least 2, got 1"),
        (lambda x: rand_augment(x.byte()), r"images: expected a float tensor, got dtype torch\.uint8"),
        (lambda x: rand_augment(x[:, :2]), "images: expected 1 or 3 channels, got 2 channels"),
        (
            lambda x: apply_operations(x, torch.tensor([0, 14]), torch.zeros(2)),
            r"operation: expected values in 0\.\.13",
        ),
        (lambda x: apply_operations(x, torch.zeros(2), torch.zeros(2)), "operation: expected integers"),
        (lambda x: apply_operations(x, torch.zeros(3).long(), torch.zeros(2)), r"operation: expected shape \[2\]"),
        (lambda x: apply_operations(x, torch.zeros(2).long(), torch.zeros(3)), r"strength: expected shape \[2\]"),
    ],
)
def test_impossible_policies_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2, 3, 4, 4))
