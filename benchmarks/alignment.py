"""Layer similarity of two ResNet-50 beside the products it is made of, the forward passes, and torch_cka.

The peer wants ``pip install torch-cka``, which the tests' requirements have.
"""

import concurrent.futures
import contextlib
import copy
import io
import multiprocessing
import time
import warnings

import torch
from rows import peak_mib, row, seconds
from torch import Tensor, nn

from sslnb import data
from sslnb.core import files
from sslnb.encoders.resnet import untrained
from sslnb.features.extract import as_float
from sslnb.features.layers import run, watching
from sslnb.metrics import cka

BATCH = 256
BATCHES = 2  # ours; everything is per batch, so that more of them only take longer
WIDTH = 64  # of the paper's ResNet-50


def _networks() -> tuple[nn.Module, nn.Module, Tensor]:
    name = "cifar10" if (files.data_root() / "cifar10.npz").is_file() else "digit-scenes"
    images = data.load(name, "test", limit=BATCH * BATCHES).images
    return *(untrained(seed, 50, width=WIDTH) for seed in (0, 1)), images


def _memory() -> float:
    """MiB at the height of a process of its own."""
    a, b, images = _networks()
    cka.cka_matrix(a, b, images, batch_size=BATCH)
    return peak_mib()


def _products(shapes: list[torch.Size]) -> float:
    """Seconds for one plain float32 product of every layer's activations with themselves."""
    total = 0.0
    for shape in shapes:
        x = torch.randn(shape).flatten(1)
        total += seconds(lambda x=x: x @ x.T, repeats=3)
    return total


def _shapes(model: nn.Module, images: Tensor) -> list[torch.Size]:
    found: list[torch.Size] = []
    with watching(model, model.layer_names, lambda _name, output: found.append(output.shape)):
        run(model, images)
    return found


def _exact(models: tuple[nn.Module, nn.Module], images: Tensor) -> Tensor:
    """CKA of one batch with every product in float64."""
    rows: list[Tensor] = []
    for model in models:
        with watching(model, model.layer_names, lambda _n, output: rows.append(cka.centred_gram(output.double()))):
            run(model, images)
    flat = torch.stack(rows).flatten(1)
    half = len(rows) // 2
    return cka.cka_of(flat @ flat.T)[:half, half:]


def layer_similarity() -> list[dict]:
    """All odd and even layers of two ResNet-50, 34 by 34, in batches of 256."""
    a, b, images = _networks()
    one = images[:BATCH]
    forward = seconds(lambda: [run(model, one) for model in (a, b)], repeats=2)
    whole = seconds(lambda: cka.cka_matrix(a, b, images, batch_size=BATCH), repeats=2) / BATCHES
    floor = 2 * _products(_shapes(a, one))
    ours = whole - forward
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        memory = pool.submit(_memory).result()
    names = list(a.layer_names)
    peer, found = _peer(a, b, one)
    exact = _exact((a, b), one)
    apart = float((cka.cka_matrix(a, b, one, batch_size=BATCH).values - exact).abs().max())
    peer_apart = float((found - exact).abs().max())
    what = f"similarity of {len(names)} × {len(names)} layers of two ResNet-50 of width {WIDTH}, a batch of {BATCH}"
    products, theirs = "the Gram products alone, float32", peer - forward
    bound = f"the Gram products alone take {floor:.1f} s, the two forward passes {forward:.1f} s"
    return [
        row(f"{what}: all but the forward passes", "s", ours, "at most 1.3×", ours <= 1.3 * floor, floor, products),
        row(f"{what}: the same", "s", ours, "less", ours < forward, forward, "the two forward passes"),
        row(f"{what}: the same", "s", ours, "at least 40×", theirs >= 40 * ours, theirs, "torch_cka", limit=bound),
        row(f"{what}: as a whole", "s", whole, "at least 12×", peer >= 12 * whole, peer, "torch_cka", limit=bound),
        row(f"{what}: peak memory of the process", "MiB", memory, "under 2 GB", memory < 2e9 / 2**20),
        row(f"{what}: apart from float64, at most", "", apart, "1e-4", apart <= 1e-4, peer_apart, "torch_cka"),
    ]


def _peer(a: nn.Module, b: nn.Module, images: Tensor) -> tuple[float, Tensor]:
    """Seconds that torch_cka takes for one batch, and what it finds.

    Without gradients, which it records unless it is kept from it: with them it did not finish on a machine of 24 GB.
    """
    from torch_cka import CKA

    a, b = copy.deepcopy(a), copy.deepcopy(b)  # its hooks stay
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(as_float(images)), BATCH)
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        peer = CKA(a, b, "a", "b", list(a.layer_names), list(b.layer_names))
        started = time.perf_counter()
        peer.compare(loader)
        return time.perf_counter() - started, peer.export()["CKA"]
