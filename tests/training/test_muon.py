"""The optimizer that makes steps of matrices orthogonal."""

import pytest
import torch
from torch import nn

from animator_core.training.muon import Muon, orthogonal

SETTINGS = {"betas": (0.9, 0.99), "weight_decay": 0.0}


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 12, 40), (1, 64, 9)])
def test_it_finds_the_nearest_orthogonal_matrix(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    found = orthogonal(matrices)
    assert found.shape == matrices.shape
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    values = torch.linalg.svdvals(found)
    assert float(values.max()) < 1.3
    assert float(values.median()) > 0.6
    cosine = torch.cosine_similarity(found.flatten(1), (left @ right).flatten(1))
    assert float(cosine.min()) > 0.95


def test_nothing_moves_without_a_gradient():
    assert torch.equal(orthogonal(torch.zeros(1, 10, 12)), torch.zeros(1, 10, 12))
    network = nn.Linear(16, 16)
    before = network.weight.clone()
    Muon(list(network.parameters()), lr=1.0, **SETTINGS).step()
    assert torch.equal(network.weight, before)


@pytest.mark.parametrize(
    "module", [nn.Linear(48, 12), nn.Conv2d(16, 32, 3), nn.Conv3d(32, 32, (3, 1, 1))]
)
def test_steps_are_as_large_as_adamw_s(module):
    """A rate means the same to both, whatever the gradient's size."""
    before = module.weight.detach().clone()
    torch.manual_seed(1)
    module.weight.grad = 1e-4 * torch.randn_like(module.weight)
    Muon(list(module.parameters()), lr=1e-2, **SETTINGS).step()
    size = (module.weight.detach() - before).square().mean().sqrt() / 1e-2
    # of a matrix that is not square, sqrt(rows * columns) of its entries share the step
    assert 0.1 < float(size) < 0.3


def test_what_is_no_matrix_takes_adamw_s_steps():
    def moved(make):
        torch.manual_seed(2)
        network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.Conv2d(16, 8, 3))
        optimizer = make(list(network.parameters()), lr=1e-2, **SETTINGS)
        for _ in range(3):
            optimizer.zero_grad()
            network(torch.ones(1, 3, 9, 9)).square().sum().backward()
            optimizer.step()
        return [parameter.detach() for parameter in network.parameters()]

    # 3 channels go in, as pictures have, and 8 come out: nothing here is a matrix but 16 x 27
    ours, theirs = moved(Muon), moved(torch.optim.AdamW)
    assert not torch.equal(ours[0], theirs[0])
    network, copies = (
        [nn.Parameter(torch.ones(16)), nn.Parameter(torch.ones(8, 144))] for _ in range(2)
    )
    for parameter in (*network, *copies):
        parameter.grad = torch.linspace(-1, 1, parameter.numel()).view_as(parameter)
    Muon(network, lr=1e-2, **SETTINGS).step()
    torch.optim.AdamW(copies, lr=1e-2, **SETTINGS).step()
    assert all(torch.equal(a, b) for a, b in zip(network, copies, strict=True))


def test_it_learns_rare_directions_as_fast_as_common_ones():
    """A map of which some inputs are a hundred times as strong as others."""

    def loss_after(make, rate):
        torch.manual_seed(3)
        scales = torch.logspace(0, -2, 24)
        truth, network = torch.randn(24, 24) / 5, nn.Linear(24, 24, bias=False)
        mixing = torch.linalg.qr(torch.randn(24, 24)).Q
        optimizer = make(list(network.parameters()), lr=rate, **SETTINGS)
        for step in range(150):
            x = (torch.randn(64, 24) * scales) @ mixing
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - step / 150)
            optimizer.zero_grad()
            (network(x) - x @ truth.T).square().mean().backward()
            optimizer.step()
        return (network.weight - truth).square().mean().item()

    rates = (3e-3, 1e-2, 3e-2, 1e-1)
    muon = min(loss_after(Muon, rate) for rate in rates)
    assert muon < 0.5 * min(loss_after(torch.optim.AdamW, rate) for rate in rates)


def test_it_can_be_resumed():
    def network_and_optimizer():
        torch.manual_seed(4)
        network = nn.Linear(16, 16)
        return network, Muon(list(network.parameters()), lr=1e-2, **SETTINGS)

    def advance(network, optimizer, steps):
        for step in steps:
            optimizer.zero_grad()
            x = torch.randn(8, 16, generator=torch.Generator().manual_seed(step))
            (network(x) - x.flip(1)).square().mean().backward()
            optimizer.step()

    whole, optimizer = network_and_optimizer()
    advance(whole, optimizer, range(6))
    first, optimizer = network_and_optimizer()
    advance(first, optimizer, range(3))
    second, later = network_and_optimizer()
    second.load_state_dict(first.state_dict())
    later.load_state_dict(optimizer.state_dict())
    advance(second, later, range(3, 6))
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True)
    )
