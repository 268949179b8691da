import math

import pytest
import torch
from torch import Tensor, nn

from sslnb.features.heads import PADDING, stacked, train_heads


def problems(groups: int = 3, n: int = 40, d: int = 6, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(classes, (groups, n), generator=generator)
    x = torch.randn(groups, n, d, generator=generator)
    return x + 2 * nn.functional.one_hot(y, d), y


def alone(x: Tensor, y: Tensor, epochs: int, batch: int, seed: int, order_seed: int) -> nn.Linear:
    """One head of three classes at a rate of 0.1, by torch's own layer, loss and optimizer."""
    (n, d), classes, rate = x.shape, 3, 0.1
    head = nn.Linear(d, classes)
    drawn = (2 * torch.rand(classes, d + 1, generator=torch.Generator().manual_seed(seed)) - 1) / math.sqrt(d)
    head.load_state_dict({"weight": drawn[:, :d], "bias": drawn[:, d]})
    optimizer = torch.optim.SGD(head.parameters(), lr=rate, momentum=0.9)
    steps = epochs * (n // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5 + 0.5 * math.cos(math.pi * t / steps))
    generator = torch.Generator().manual_seed(order_seed)
    for _ in range(epochs):
        order = torch.randperm(n, generator=generator)[: n - n % batch]
        for index in order.split(batch):
            kept = index[y[index] >= 0]
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(x[kept]), y[kept]).backward()
            optimizer.step()
            schedule.step()
    return head


def test_stacked_heads_are_those_trained_one_by_one() -> None:
    x, y = problems()
    heads = train_heads(x, y, 3, epochs=4, learning_rate=0.1, batch_size=16, seeds=[5, 6, 7])
    for g in range(3):
        one = alone(x[g], y[g], 4, 16, 5 + g, 5)
        torch.testing.assert_close(heads.weight[-1, g], one.weight.detach(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(heads.bias[-1, g], one.bias.detach(), atol=1e-5, rtol=1e-4)


def test_every_epoch_is_kept_the_start_first() -> None:
    x, y = problems()
    heads = train_heads(x, y, 3, epochs=5, batch_size=10)
    assert heads.weight.shape == (6, 3, 3, 6) and heads.bias.shape == (6, 3, 3)
    p = heads.probabilities(x)
    assert p.shape == (6, 3, 40, 3)
    torch.testing.assert_close(p.sum(-1), torch.ones(6, 3, 40))
    right = (p.argmax(-1) == y).double().mean((1, 2))
    assert right[-1] > 0.85 > right[0]
    torch.testing.assert_close(p[2, 1], (x[1] @ heads.weight[2, 1].T + heads.bias[2, 1]).softmax(1))
    torch.testing.assert_close(heads.of(1).probabilities(x[1:2]), p[:, 1:2])


def test_samples_that_fill_up_teach_nothing() -> None:
    x, y = problems(2, 40)
    filled, labels = stacked([x[0], x[1][:25]], [y[0], y[1][:25]])
    assert filled.shape == (2, 40, 6) and (labels[1, 25:] == PADDING).all()
    heads = train_heads(filled, labels, 3, epochs=3, batch_size=20, seeds=[0, 1])
    changed = filled.clone()
    changed[1, 25:] = 100.0
    again = train_heads(changed, labels, 3, epochs=3, batch_size=20, seeds=[0, 1])
    torch.testing.assert_close(heads.weight, again.weight)
    one = alone(filled[1], labels[1], 3, 20, 1, 0)
    torch.testing.assert_close(heads.weight[-1, 1], one.weight.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": torch.zeros(3, 40)}, "x: expected shape"),
        ({"y": torch.zeros(3, 39, dtype=torch.long)}, "y: expected shape"),
        ({"y": torch.full((3, 40), 3)}, "y, plus one: expected values in 0..3"),
        ({"y": torch.full((3, 40), -1)}, "y: expected at least one sample in each problem"),
        ({"x": torch.full((3, 40, 6), math.nan)}, "x: expected finite"),
        ({"classes": 1}, "classes: expected at least 2"),
        ({"epochs": 0}, "epochs: expected at least 1"),
        ({"batch_size": 0}, "batch_size: expected at least 1"),
        ({"learning_rate": 0.0}, "learning_rate: expected a value above 0"),
        ({"seeds": [0]}, "seeds: expected one for each of 3 problems"),
    ],
)
def test_bad_problems_are_refused(change: dict, says: str) -> None:
    x, y = problems()
    with pytest.raises(ValueError, match=says):
        train_heads(**{"x": x, "y": y, "classes": 3} | change)
