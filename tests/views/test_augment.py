import functools
import itertools
from dataclasses import replace

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop, v2

from sslnb.views import augment, color
from sslnb.views.augment import Augmentation, MultiCrop
from sslnb.views.color import (
    color_jitter,
    default_kernel_size,
    gaussian_blur,
    random_gaussian_blur,
    random_greyscale_,
    random_solarize_,
    solarize_,
)
from sslnb.views.crops import crop_boxes, resized_crop

STRENGTHS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
ADJUSTMENTS = ("adjust_brightness_", "adjust_contrast_", "adjust_saturation_", "adjust_hue_")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(n: int, height: int = 16, width: int = 16, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(n, channels, height, width, generator=seeded(seed))


def bytes_of(n: int, side: int = 16, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(256, (n, channels, side, side), dtype=torch.uint8, generator=seeded(seed))


# Crops


def torchvision_boxes(n: int, height: int, width: int, scale: tuple, ratio: tuple) -> Tensor:
    image = torch.empty(1, height, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return torch.tensor([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(n)]).float()


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (32, 32, (0.2, 1.0), (3 / 4, 4 / 3)),
        (40, 60, (0.08, 0.7), (3 / 4, 4 / 3)),
        (16, 64, (0.5, 1.0), (3 / 4, 4 / 3)),  # wide: the ten tries often fail
        (60, 20, (0.8, 1.0), (0.5, 2.0)),  # tall
        (200, 200, (0.05, 0.3), (0.2, 5.0)),
    ],
)
def test_crop_boxes_have_the_distribution_of_torchvision(height, width, scale, ratio):
    ours = crop_boxes(4000, height, width, scale=scale, ratio=ratio, generator=seeded(0))
    theirs = torchvision_boxes(4000, height, width, scale, ratio)
    for boxes in (ours, theirs):
        top, left, h, w = boxes.unbind(1)
        assert (top >= 0).all() and (left >= 0).all() and (h >= 1).all() and (w >= 1).all()
        assert (top + h <= height).all() and (left + w <= width).all() and torch.equal(boxes, boxes.round())
    marginals = {
        "area": lambda b: b[:, 2] * b[:, 3],
        "aspect": lambda b: b[:, 3] / b[:, 2],
        "top": lambda b: b[:, 0],
        "left": lambda b: b[:, 1],
        "height": lambda b: b[:, 2],
        "width": lambda b: b[:, 3],
        "vertical slack taken": lambda b: b[:, 0] / (height - b[:, 2]).clamp(min=1),
    }
    for name, marginal in marginals.items():
        p = stats.ks_2samp(marginal(ours).numpy(), marginal(theirs).numpy()).pvalue
        assert p > 1e-3, name


@pytest.mark.parametrize(("height", "width"), [(10, 100), (100, 10), (30, 30)])
def test_where_no_try_fits_the_central_crop_of_torchvision_is_taken(height, width):
    scale, ratio = (1.0, 1.0), (1.5, 2.0) if height == width else (3 / 4, 4 / 3)
    ours = crop_boxes(8, height, width, scale=scale, ratio=ratio, generator=seeded())
    assert torch.equal(ours, torchvision_boxes(8, height, width, scale, ratio))


def test_every_position_of_a_crop_is_equally_likely():
    boxes = crop_boxes(20_000, 16, 16, scale=(0.5, 0.5), ratio=(1.0, 1.0), generator=seeded(3))
    assert boxes[:, 2:].unique().tolist() == [11]
    counts = torch.bincount((boxes[:, 0] * 6 + boxes[:, 1]).long(), minlength=36)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("scale", [(0, 1), (0.5, 0.2), (0.5, 1.5)])
def test_impossible_crop_scales_and_ratios_are_refused(scale):
    with pytest.raises(ValueError, match="scale: expected 0 < low <= high <= 1"):
        crop_boxes(2, 8, 8, scale=scale)
    with pytest.raises(ValueError, match="ratio: expected 0 < low <= high"):
        crop_boxes(2, 8, 8, scale=(0.5, 1), ratio=(2, 1))


@pytest.mark.parametrize(
    ("height", "width", "size"), [(32, 32, 32), (48, 31, 32), (64, 96, 16), (20, 20, 45), (9, 9, 1)]
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_resized_crops_equal_those_of_torchvision(height, width, size, mirrored):
    images = noise(12, height, width, seed=2)
    boxes = crop_boxes(12, height, width, scale=(0.1, 1.0), generator=seeded(4))
    boxes[0] = torch.tensor([0, 0, height, width])
    boxes[1] = torch.tensor([height - 1, width - 1, 1, 1])  # a single pixel
    flip = torch.arange(12) % 2 == 0 if mirrored else None
    found = resized_crop(images, boxes, size, flip=flip)
    for i, box in enumerate(boxes.int().tolist()):
        how = {"interpolation": InterpolationMode.BILINEAR, "antialias": True}
        expected = reference.resized_crop(images[i], *box, [size, size], **how)
        expected = expected.flip(-1) if mirrored and flip[i] else expected
        torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=0)


def test_a_whole_crop_at_the_same_size_changes_no_pixel_and_a_flip_mirrors_exactly():
    images = noise(6, 16, 16)
    boxes = torch.tensor([[0.0, 0, 16, 16]]).expand(6, 4)
    flip = torch.tensor([True, False, True, True, False, False])
    found = resized_crop(images, boxes, 16, flip=flip)
    assert torch.equal(found, torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images))


def test_pixels_outside_of_the_crop_do_not_bleed_in():
    images = torch.zeros(1, 1, 16, 16)
    images[:, :, 4:12, 4:12] = 1
    for size in (3, 8, 20):
        assert (resized_crop(images, torch.tensor([[4.0, 4, 8, 8]]), size) - 1).abs().max() < 1e-6


# Colours


def palette() -> Tensor:
    """Images of noise, greys, black, white, pure and nearly grey colours: [8,3,6,6]."""
    images = noise(8, 6, 6, seed=5)
    images[1] = images[1, :1]  # grey
    images[2], images[3] = 0, 1
    images[4] = torch.eye(3).repeat(1, 12).view(3, 6, 6)
    images[5] = 1 - images[4]
    images[6] = 0.5 + 1e-3 * (images[6] - 0.5)
    return images


@pytest.mark.parametrize(
    ("name", "factors", "tolerance"),
    [
        ("brightness", torch.linspace(0, 2.5, 8), 1e-5),
        ("contrast", torch.linspace(0, 2.5, 8), 3e-4),  # torchvision weighs red by 0.2989, not 0.299
        ("saturation", torch.linspace(0, 2.5, 8), 3e-4),
        ("hue", torch.linspace(-0.5, 0.5, 8), 1e-4),
        ("hue", torch.linspace(0.5, -0.5, 8), 1e-4),
        ("hue", torch.zeros(8), 1e-5),
    ],
)
def test_colour_adjustments_equal_those_of_torchvision(name, factors, tolerance):
    images = palette()
    adjust, theirs = getattr(color, f"adjust_{name}_"), getattr(reference, f"adjust_{name}")
    expected = torch.stack([theirs(image, float(factor)) for image, factor in zip(images, factors, strict=True)])
    found = adjust(images, factors)
    assert found.data_ptr() == images.data_ptr()  # in place
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def test_greyscale_is_the_luma_of_itu_601():
    images = palette().double()
    luma = 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]
    torch.testing.assert_close(color.greyscale(images), luma)
    assert (color.greyscale(images) - reference.rgb_to_grayscale(images)).abs().max() < 1.1e-4  # it has 0.2989


@pytest.mark.parametrize("name", ["contrast", "saturation"])
def test_contrast_and_saturation_blend_with_the_luma(name):
    images, factors = palette().double(), torch.linspace(0, 2.5, 8).double()
    luma = 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]
    towards = luma.mean((1, 2, 3), keepdim=True) if name == "contrast" else luma
    f = factors.view(-1, 1, 1, 1)
    expected = (f * images + (1 - f) * towards).clamp(0, 1)
    torch.testing.assert_close(getattr(color, f"adjust_{name}_")(images, factors), expected)


@pytest.fixture
def spied(monkeypatch):
    """Replaces the four adjustments by recorders: {image: [(name, factor), …]}; image i is one of constant i / 256."""
    seen: dict[int, list[tuple[str, float]]] = {}

    def recorder(name: str):
        @functools.wraps(getattr(color, name))
        def record(images: Tensor, factor: Tensor) -> Tensor:
            for image, value in zip((images[:, 0, 0, 0] * 256).round().int().tolist(), factor.tolist(), strict=True):
                seen.setdefault(image, []).append((name, value))
            return images

        return record

    for name in ADJUSTMENTS:
        monkeypatch.setattr(color, name, recorder(name))
    return seen


def numbered(n: int) -> Tensor:
    return (torch.arange(n) / 256).view(-1, 1, 1, 1).expand(n, 3, 1, 1).clone()


@pytest.mark.parametrize(("n", "draws"), [(1, 1500), (5, 400), (64, 30)])
def test_all_24_orders_of_jitter_are_equally_likely_whatever_the_batch(spied, n, draws):
    generator, positions = seeded(7), {order: i for i, order in enumerate(itertools.permutations(ADJUSTMENTS))}
    counts, neighbours_alike = torch.zeros(n, 24), 0
    for _ in range(draws):
        spied.clear()
        assert torch.equal(color_jitter(numbered(n), **STRENGTHS, generator=generator), numbered(n))
        assert sorted(spied) == list(range(n))
        orders = [positions[tuple(name for name, _ in spied[image])] for image in range(n)]  # each exactly once
        counts[torch.arange(n), torch.tensor(orders)] += 1
        neighbours_alike += sum(a == b for a, b in itertools.pairwise(orders))
    assert stats.chisquare(counts.sum(0).numpy()).pvalue > 1e-3
    if n == 5:
        for image in counts:  # and so for each place in the batch
            assert stats.chisquare(image.numpy()).pvalue > 1e-4
    assert neighbours_alike <= 0.08 * draws * (n - 1)  # neighbours in the batch share no fate: 1 in 24 by chance


def test_jitter_factors_are_uniform_and_drawn_per_sample_with_the_given_probability(spied):
    strengths = {"brightness": 0.4, "contrast": 1.5, "saturation": 0.2, "hue": 0.1}
    ranges = {
        "adjust_brightness_": (0.6, 1.4),
        "adjust_contrast_": (0.0, 2.5),
        "adjust_saturation_": (0.8, 1.2),
        "adjust_hue_": (-0.1, 0.1),
    }
    calls: list[dict[str, float]] = []
    generator = seeded(11)
    for _ in range(15):
        spied.clear()
        color_jitter(numbered(256), **strengths, probability=0.7, generator=generator)
        calls += [dict(spied[image]) for image in range(256)]
    unchanged = {"adjust_brightness_": 1, "adjust_contrast_": 1, "adjust_saturation_": 1, "adjust_hue_": 0}
    left_alone = [call == unchanged for call in calls]
    assert stats.binomtest(len(calls) - sum(left_alone), len(calls), 0.7).pvalue > 1e-3
    hit = [call for call, alone in zip(calls, left_alone, strict=True) if not alone]
    for name, (low, high) in ranges.items():
        values = [call[name] for call in hit]
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3, name
        assert len(set(values)) > 0.99 * len(values)  # not one for all
    pairs = torch.tensor([[call[name] for name in ranges] for call in hit])
    assert (torch.corrcoef(pairs.T) - torch.eye(4)).abs().max() < 0.08  # independent of one another


def test_jitter_with_the_recorded_factors_and_order_is_what_torchvision_gives(monkeypatch):
    images, steps = noise(24, 8, 8, seed=6), {}

    def traced(name: str):
        original = getattr(color, name)

        @functools.wraps(original)
        def trace(share: Tensor, factor: Tensor) -> Tensor:
            for slot, value in zip(share.unbind(), factor.tolist(), strict=True):
                steps.setdefault(slot.data_ptr(), []).append((name, value))
            return original(share, factor)

        return trace

    for name in ADJUSTMENTS:
        monkeypatch.setattr(color, name, traced(name))
    found = color_jitter(images.clone(), **STRENGTHS, generator=seeded(3))
    candidates = []  # what torchvision makes of every image with every recorded recipe
    for recipe in steps.values():
        out = images
        for name, value in recipe:
            out = getattr(reference, name.removesuffix("_"))(out, value)
        candidates.append(out)
    distance = (torch.stack(candidates) - found).abs().flatten(2).amax(2)  # recipe × image
    assert distance.amin(0).max() < 1e-4
    assert sorted(distance.argmin(0).tolist()) == list(range(24))  # each recipe was used for one image


def test_jitter_without_a_hit_or_without_strength_changes_nothing():
    images = noise(10, 6, 6)
    for probability, strengths in ((0.0, STRENGTHS), (1.0, dict.fromkeys(STRENGTHS, 0.0))):
        found = color_jitter(images.clone(), **strengths, probability=probability, generator=seeded())
        torch.testing.assert_close(found, images, atol=1e-6, rtol=0)


def test_one_channel_images_change_in_brightness_and_contrast_only():
    images = noise(40, 6, 6, channels=1, seed=4)
    found = color_jitter(images.clone(), brightness=0.0, contrast=0.5, saturation=0.5, hue=0.5, generator=seeded())
    assert found.shape == images.shape
    mean, spread = found.mean((1, 2, 3)), found.std((1, 2, 3)) / images.std((1, 2, 3))
    inside = (found.flatten(1) > 0).all(1) & (found.flatten(1) < 1).all(1)  # nothing cut off
    assert inside.sum() > 10
    torch.testing.assert_close(mean[inside], images.mean((1, 2, 3))[inside], atol=1e-5, rtol=0)
    assert spread.min() < 0.7 and spread.max() > 1.2
    images = 0.6 * images
    brighter = color_jitter(images.clone(), brightness=0.5, contrast=0, saturation=1, hue=0.5, generator=seeded())
    factor = brighter.flatten(1)[:, 0] / images.flatten(1)[:, 0]
    torch.testing.assert_close(brighter, images * factor.view(-1, 1, 1, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hue": 0.6}, r"hue: expected a value in \[0, 0.5\]"),
        ({"hue": -0.1}, "hue: expected"),
        ({"brightness": -1.0}, "brightness: expected a value of at least 0"),
        ({"contrast": -1.0}, "contrast: expected a value of at least 0"),
        ({"saturation": -1.0}, "saturation: expected a value of at least 0"),
    ],
)
def test_impossible_strengths_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        color_jitter(noise(2), **{**STRENGTHS, **changes})
    with pytest.raises(ValueError, match="images: expected 1 or 3 channels, got 2 channels"):
        color_jitter(noise(2, channels=2), **STRENGTHS)


def test_greyscale_hits_each_sample_with_its_probability_and_all_channels_at_once():
    images = noise(3000, 2, 2, seed=8)
    found = random_greyscale_(images.clone(), 0.2, seeded(1))
    grey = color.greyscale(images).expand_as(images)
    hit = (found == grey).flatten(1).all(1)
    assert torch.equal(found[~hit], images[~hit])
    assert stats.binomtest(int(hit.sum()), 3000, 0.2).pvalue > 1e-3
    assert torch.equal(random_greyscale_(images.clone(), 0.0), images)
    torch.testing.assert_close(random_greyscale_(images.clone(), 1.0), grey)


# Blur and solarisation


@pytest.mark.parametrize(
    ("height", "width", "kernel_size"), [(32, 32, 3), (32, 32, 5), (20, 33, 7), (24, 24, 23), (3, 2, 3), (8, 8, 1)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_blur_by_a_given_sigma_equals_that_of_torchvision(height, width, kernel_size, channels):
    images, sigma = noise(7, height, width, channels), torch.tensor([0.05, 0.1, 0.5, 1.0, 2.0, 10.0, 100.0])
    before = images.clone()
    found = gaussian_blur(images, sigma, kernel_size)
    assert torch.equal(images, before)
    for image, s, blurred in zip(images, sigma.tolist(), found, strict=True):
        expected = reference.gaussian_blur(image, [kernel_size, kernel_size], [s, s])
        torch.testing.assert_close(blurred, expected, atol=1e-5, rtol=0)


def test_a_batch_longer_than_a_chunk_and_strided_images_are_blurred_alike():
    images, sigma = noise(300, 8, 8), torch.linspace(0.1, 2, 300)
    found = gaussian_blur(images, sigma, 3)
    for i in (0, 127, 128, 299):
        assert torch.equal(found[i : i + 1], gaussian_blur(images[i : i + 1], sigma[i : i + 1], 3))
    channels_last = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(gaussian_blur(channels_last, sigma, 3), found)


@pytest.mark.parametrize(("side", "kernel_size"), [(8, 3), (32, 3), (39, 3), (40, 5), (64, 7), (96, 9), (224, 23)])
def test_the_kernel_is_a_tenth_of_the_side(side, kernel_size):
    assert default_kernel_size(side) == kernel_size


@pytest.fixture
def blurred(monkeypatch):
    """Replaces the blur by a recorder of (image number, sigma, kernel size); images as from ``numbered``."""
    calls: list[tuple[int, float, int]] = []

    def record(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
        numbers = (images[:, 0, 0, 0] * 256).round().int().tolist()
        calls.extend((i, s, kernel_size) for i, s in zip(numbers, sigma.tolist(), strict=True))
        return images + 1

    monkeypatch.setattr(color, "gaussian_blur", record)
    return calls


def test_blur_hits_with_its_probability_by_a_sigma_uniform_and_drawn_per_sample(blurred):
    images, generator = numbered(256), seeded(1)
    for _ in range(15):
        blurred_before = len(blurred)
        found = random_gaussian_blur(images, 0.4, sigma=(0.5, 1.5), generator=generator)
        hit = torch.tensor([i for i, _, _ in blurred[blurred_before:]])
        expected = images.clone()
        expected[hit] += 1
        assert torch.equal(found, expected)  # only those which are hit are worked on
    assert stats.binomtest(len(blurred), 15 * 256, 0.4).pvalue > 1e-3
    places = torch.tensor([i for i, _, _ in blurred])
    assert stats.chisquare(torch.bincount(places // 32, minlength=8).numpy()).pvalue > 1e-3
    sigmas = [s for _, s, _ in blurred]
    assert stats.kstest(sigmas, stats.uniform(0.5, 1.0).cdf).pvalue > 1e-3
    assert len(set(sigmas)) > 0.99 * len(sigmas)
    assert {k for _, _, k in blurred} == {3}
    assert torch.equal(images, numbered(256))


def test_the_blur_kernel_follows_the_shorter_side_unless_given(blurred):
    random_gaussian_blur(torch.zeros(2, 3, 60, 40), 1.0)
    random_gaussian_blur(torch.zeros(2, 3, 60, 40), 1.0, kernel_size=11)
    assert [k for _, _, k in blurred] == [5, 5, 11, 11]


def roughness(images: Tensor) -> Tensor:
    """Mean squared difference of neighbours in each image [N]: what blur takes away."""
    return (images[..., 1:] - images[..., :-1]).square().mean((1, 2, 3))


def each_by_torchvision(transform: v2.Transform, images: Tensor) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return torch.stack([transform(image) for image in images])


def test_random_blur_leaves_as_much_as_torchvision_does():
    images = noise(800, 12, 12)
    ours = random_gaussian_blur(images, 0.5, kernel_size=5, generator=seeded(3))
    theirs = each_by_torchvision(v2.RandomApply([v2.GaussianBlur(5, (0.1, 2.0))], p=0.5), images)
    torch.testing.assert_close(ours.mean(), theirs.mean(), atol=1e-3, rtol=0)
    assert stats.ks_2samp(roughness(ours).numpy(), roughness(theirs).numpy()).pvalue > 1e-3
    for probability, kept in ((0.0, 800), (1.0, 0)):
        found = random_gaussian_blur(images, probability, sigma=(1.0, 2.0), generator=seeded(3))
        assert (found == images).flatten(1).all(1).sum() == kept


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_solarisation_at_a_given_threshold_equals_that_of_torchvision(threshold):
    edges = torch.tensor([0.0, 0.5, threshold, 1.0]).expand(1, 3, 16, 4, 4).flatten(3)
    images = torch.cat([noise(4), bytes_of(4) / 255, edges])
    expected = reference.solarize(images, threshold)
    found = images.clone()
    assert solarize_(found, threshold) is found
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)
    thresholds = torch.linspace(0, 1.5, 9)
    found = solarize_(images.clone(), thresholds)
    for image, t, solarised in zip(images, thresholds.tolist(), found, strict=True):
        expected = reference.solarize(image, t) if t <= 1 else image
        torch.testing.assert_close(solarised, expected, atol=1e-7, rtol=0)


def test_solarisation_hits_with_its_probability_and_as_torchvision_does():
    images = noise(3000, 4, 4, seed=8)
    found = random_solarize_(images.clone(), 0.2, seeded(1))
    hit = (found != images).flatten(1).any(1)
    assert stats.binomtest(int(hit.sum()), 3000, 0.2).pvalue > 1e-3
    assert torch.equal(found, torch.where(hit.view(-1, 1, 1, 1), reference.solarize(images, 0.5), images))
    theirs = each_by_torchvision(v2.RandomSolarize(0.5, p=0.2), images)
    assert stats.ks_2samp(found.mean((1, 2, 3)).numpy(), theirs.mean((1, 2, 3)).numpy()).pvalue > 1e-3
    changed = images.clone()
    assert random_solarize_(changed, 1.0) is changed and torch.equal(changed, reference.solarize(images, 0.5))
    assert torch.equal(random_solarize_(images.clone(), 0.0), images)
    assert torch.equal(random_solarize_(images.clone(), 1.0, threshold=0.9), reference.solarize(images, 0.9))


@pytest.mark.parametrize("transform", [random_gaussian_blur, random_solarize_])
def test_blur_and_solarisation_come_from_the_generator_alone(transform):
    images, state = noise(200, 6, 6), torch.get_rng_state()
    first = transform(images.clone(), 0.5, generator=seeded(5))
    assert torch.equal(transform(images.clone(), 0.5, generator=seeded(5)), first)
    assert not torch.equal(transform(images.clone(), 0.5, generator=seeded(6)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert transform(images[:0].clone(), 0.5).shape == (0, 3, 6, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_blur(noise(2), torch.ones(2), 4), "kernel_size: expected an odd positive number, got 4"),
        (lambda: gaussian_blur(noise(2), torch.ones(2), -1), "kernel_size: expected an odd positive number, got -1"),
        (lambda: gaussian_blur(noise(2), torch.ones(2), 33), "kernel_size: expected at most 31, got 33"),
        (lambda: gaussian_blur(noise(2), torch.ones(3), 3), r"sigma: expected shape \[2\], got shape \[3\]"),
        (lambda: random_gaussian_blur(noise(2), 1.5), r"probability: expected a value in \[0, 1\], got 1.5"),
        (lambda: random_gaussian_blur(noise(2), 1, sigma=(0, 1)), r"sigma: expected 0 < low <= high, got \(0, 1\)"),
        (lambda: random_gaussian_blur(noise(2), 1, sigma=(2, 1)), "sigma: expected 0 < low <= high"),
        (lambda: random_solarize_(noise(2), -0.1), r"probability: expected a value in \[0, 1\], got -0.1"),
    ],
)
def test_impossible_blurs_and_solarisations_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# The whole view

FULL = Augmentation(jitter=(0.4, 0.4, 0.4, 0.1), greyscale=0.2)


def test_a_view_is_float_in_0_to_1_of_the_asked_size():
    images = bytes_of(200)
    view = FULL(images, seeded())
    assert view.dtype == torch.float32 and view.shape == (200, 3, 16, 16)
    assert view.min() >= 0 and view.max() <= 1
    assert Augmentation(size=7, jitter=(0.4, 0.4, 0.4, 0.1))(images, seeded()).shape == (200, 3, 7, 7)
    grey = Augmentation(jitter=(0.4, 0.4, 0.4, 0.1), greyscale=0.5)(bytes_of(9, channels=1), seeded())
    assert grey.shape == (9, 1, 16, 16) and grey.min() >= 0 and grey.max() <= 1


def test_the_same_generator_gives_the_same_bytes_and_the_global_one_is_left_alone():
    images, state = bytes_of(20), torch.get_rng_state()
    before = images.clone()
    first = FULL(images, seeded(5))
    assert torch.equal(FULL(images, seeded(5)), first)
    assert not torch.equal(FULL(images, seeded(6)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)
    generator = seeded(5)
    assert not torch.equal(FULL(images, generator), FULL(images, generator))  # two views differ


def test_copies_of_one_image_get_different_views():
    view = FULL(bytes_of(1).expand(50, -1, -1, -1), seeded()).flatten(1)
    assert len(view.unique(dim=0)) == 50


def test_per_batch_every_copy_of_an_image_gets_the_same_view_and_each_batch_another():
    strong = {"jitter": (0.8, 0.8, 0.8, 0.2), "greyscale": 0.5, "blur": 0.5, "solarize": 0.5, "per_batch": True}
    one = torch.randint(256, (1, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    views = [Augmentation(**strong)(one.expand(6, -1, -1, -1), generator) for _ in range(8)]
    for view in views:
        torch.testing.assert_close(view, view[:1].expand_as(view), atol=1e-6, rtol=0)
    assert len({view[0].sum().item() for view in views}) == 8


def test_per_batch_has_the_distribution_of_single_images():
    one = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    settings = {"scale": (0.2, 1.0), "jitter": (0.4, 0.4, 0.4, 0.1), "greyscale": 0.3}
    generator = torch.Generator().manual_seed(2)
    alone = torch.cat([Augmentation(**settings, per_batch=True)(one, generator) for _ in range(600)])
    together = Augmentation(**settings)(one.expand(600, -1, -1, -1), generator)
    for measure in (
        lambda x: x.mean((1, 2, 3)),
        lambda x: x.std((1, 2, 3)),
        lambda x: (x[:, 0] - x[:, 1]).mean((1, 2)),
    ):
        assert stats.ks_2samp(measure(alone).numpy(), measure(together).numpy()).pvalue > 1e-3


def test_flips_come_with_their_probability_and_mirror_exactly():
    images = bytes_of(2000, side=2)
    view = Augmentation(scale=(1.0, 1.0), flip=0.3)(images, seeded(2))
    plain = images / 255
    boxes = crop_boxes(2000, 2, 2, scale=(1.0, 1.0), generator=seeded(2))
    whole = (boxes[:, 2:] == 2).all(1)
    mirrored = (view == plain.flip(3)).flatten(1).all(1) & whole
    straight = (view == plain).flatten(1).all(1) & whole
    assert torch.equal(mirrored | straight, whole) and whole.sum() > 1000
    assert stats.binomtest(int(mirrored[whole].sum()), int(whole.sum()), 0.3).pvalue > 1e-3
    never = Augmentation(scale=(1.0, 1.0), flip=0.0)(images, seeded(2))
    assert torch.equal(never[whole], plain[whole])


def test_the_parts_of_a_view_are_the_transforms_by_themselves_in_their_order():
    images = bytes_of(300, side=8, seed=3)
    view = Augmentation(scale=(0.3, 1.0), flip=0.5)(images, seeded(4))
    generator = seeded(4)
    boxes = crop_boxes(300, 8, 8, scale=(0.3, 1.0), generator=generator)
    flip = torch.rand(300, generator=generator) < 0.5
    torch.testing.assert_close(view, resized_crop(images / 255, boxes, 8, flip=flip), atol=1e-6, rtol=0)
    jittered = Augmentation((0.3, 1.0), 0.5, (0.4, 0.4, 0.4, 0.1), 0.6, 0.5)(images, seeded(4))
    view = color_jitter(view, **STRENGTHS, probability=0.6, generator=generator)
    torch.testing.assert_close(jittered, random_greyscale_(view, 0.5, generator), atol=1e-5, rtol=0)


def test_blur_and_solarisation_come_last_and_in_this_order():
    images = bytes_of(300, side=8, seed=3)
    base = {"scale": (0.3, 1.0), "jitter": (0.4, 0.4, 0.4, 0.1), "greyscale": 0.3, "ratio": (0.5, 2.0)}
    view = Augmentation(**base, blur=0.6, blur_sigma=(0.5, 1.0), solarize=0.4)(images, seeded(4))
    generator = seeded(4)
    expected = Augmentation(**base)(images, generator)
    expected = random_gaussian_blur(expected, 0.6, sigma=(0.5, 1.0), generator=generator)
    assert torch.equal(view, random_solarize_(expected, 0.4, generator))
    assert view.min() >= 0 and view.max() <= 1


def test_what_has_probability_0_draws_nothing():
    images, first, second = bytes_of(20), seeded(1), seeded(1)
    plain = FULL(images, first)
    assert torch.equal(replace(FULL, blur=0.0, solarize=0.0, blur_sigma=(1, 9))(images, second), plain)
    assert torch.equal(first.get_state(), second.get_state())
    replace(FULL, solarize=0.1)(images, second)
    FULL(images, first)
    assert not torch.equal(first.get_state(), second.get_state())


def test_the_aspect_of_the_crop_is_drawn_from_the_asked_range(monkeypatch):
    seen = []
    monkeypatch.setattr(augment, "crop_boxes", lambda *a, **k: seen.append(k["ratio"]) or crop_boxes(*a, **k))
    Augmentation()(bytes_of(2), seeded())
    Augmentation(ratio=(0.9, 1.1))(bytes_of(2), seeded())
    assert seen == [(3 / 4, 4 / 3), (0.9, 1.1)]


def test_a_multi_crop_is_the_large_views_and_then_the_small_ones():
    images = bytes_of(12)
    first, second = replace(FULL, blur=1.0), replace(FULL, blur=0.1, solarize=0.2)
    small = replace(FULL, scale=(0.05, 0.2), size=8)
    views = MultiCrop((first, second), small, 3)(images, seeded(1))
    assert [tuple(view.shape[2:]) for view in views] == [(16, 16), (16, 16), (8, 8), (8, 8), (8, 8)]
    generator = seeded(1)
    for found, view in zip(views, (first, second, small, small, small), strict=True):
        assert torch.equal(found, view(images, generator))
    assert not torch.equal(views[2], views[3]) and not torch.equal(views[3], views[4])
    assert len(MultiCrop((first,))(images)) == 1
    assert len(MultiCrop((first,), small, 0)(images)) == 1


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (((),), r"large: expected at least one augmentation, got \(\)"),
        (((FULL,), None, 4), "small: expected an augmentation for the 4 small crops, got None"),
        (((FULL,), FULL, -1), "small_crops: expected a value of at least 0, got -1"),
    ],
)
def test_impossible_multi_crops_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        MultiCrop(*parts)


@pytest.mark.parametrize("images", [noise(2), bytes_of(2)[0], bytes_of(2).long()])
def test_only_uint8_batches_are_augmented(images):
    with pytest.raises(ValueError, match=r"images: expected uint8 \[N,C,H,W\], got"):
        FULL(images)
