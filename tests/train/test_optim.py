"""Muon's direction is orthogonal, its split takes block matrices only, and the average follows the weights."""

import torch
from torch import nn

from gf_core.train.optim import Average, Muon, orthogonalise, split_parameters


def test_orthogonalise_flattens_the_spectrum():
    matrix = torch.randn(24, 16, generator=torch.Generator().manual_seed(0)) @ torch.diag(
        torch.logspace(0, -2, 16)
    )
    values = torch.linalg.svdvals(orthogonalise(matrix, iterations=10))
    assert values.max() < 1.3 and values.min() > 0.5


def test_muon_descends():
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 8, bias=False), torch.randn(64, 8)
    optimiser = Muon(layer.parameters(), lr=0.02, decay=0.0)
    losses = []
    for _ in range(60):
        loss = (layer(x) - x).pow(2).mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.1 * losses[0]


def test_only_block_matrices_are_hidden():
    net = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(3, 3)]), "head": nn.Linear(3, 3)})
    hidden, rest = split_parameters(net)
    assert [p.shape for p in hidden] == [(3, 3)] and len(rest) == 3


def test_average_lags_behind():
    layer = nn.Linear(2, 2)
    average = Average(layer, keep=0.9)
    before = average.values["weight"].clone()
    with torch.no_grad():
        layer.weight += 1
    average.update(layer)
    moved = (average.values["weight"] - before).mean().item()
    assert 0 < moved < 1
