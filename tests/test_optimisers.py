"""Muon and AdamW: against decompositions, PyTorch's own, and each other."""
import pytest
import torch
from torch import nn

from ddpm_teach.plumbing.optimisers import Muon, adamw, orthogonal


def polynomial(values, rounds=5):
    for _ in range(rounds):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return values


@pytest.mark.parametrize('shape', [(4, 9), (9, 4), (5, 5), (1, 7), (7, 1), (1, 1)])
@pytest.mark.parametrize('rounds', [1, 3, 5])
def test_directions_stay_and_values_go_through_the_polynomial(shape, rounds):
    torch.manual_seed(0)
    others = [torch.randn(4, 4, dtype=torch.float64), torch.randn(7, 2).double()]
    matrix = torch.randn(shape, dtype=torch.float64)
    U, values, Vh = torch.linalg.svd(matrix, full_matrices=False)
    expected = U @ polynomial(values / values.norm(), rounds).diag() @ Vh
    for place in range(3):             # beside others, of the same size and not
        matrices = [*others[:place], matrix, *others[place:]]
        found = orthogonal(matrices, rounds)
        torch.testing.assert_close(found[place], expected)
        assert [len(m) for m in found] == [len(m) for m in matrices]


def test_no_direction_is_none():
    for matrix in (torch.zeros(3, 4), torch.zeros(4, 3)):
        assert torch.equal(orthogonal([matrix])[0], matrix)
    assert orthogonal([]) == []


@pytest.mark.parametrize('scale', [1e-3, 1., 1e3])
def test_the_step_does_not_depend_on_the_size_of_the_loss(scale):
    torch.manual_seed(0)
    gradients = torch.randn(4, 6, 8)
    moved = []
    for factor in (1., scale):
        weight = nn.Parameter(torch.zeros(6, 8))
        optimiser = Muon([weight], 1e-2)
        for gradient in gradients:
            weight.grad = factor * gradient
            optimiser.step()
        moved.append(weight.detach())
    torch.testing.assert_close(*moved)


@pytest.mark.parametrize('network', [
    nn.LayerNorm(4), nn.Linear(4, 4, bias=False), nn.Linear(4, 4), nn.Conv2d(4, 4, 3),
    nn.Conv1d(4, 4, 3), nn.Embedding(4, 4),
])
def test_networks_with_and_without_matrices(network):
    optimiser = Muon(network.parameters(), 1e-2)
    before = [weight.clone() for weight in network.parameters()]
    for weight in network.parameters():
        weight.grad = torch.randn_like(weight)
    optimiser.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, network.parameters())]
    assert all(moved)


def test_a_weight_without_gradient_stays():
    a, b = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimiser = Muon([a, b], 1e-2)
    a.grad = torch.eye(2)
    optimiser.step()
    assert not torch.equal(a, torch.ones(2, 2)) and torch.equal(b, torch.ones(2, 2))


def test_rate_and_rate_of_matrices():
    gradients = torch.randn(2, 3)
    way = []
    for lr, times in [(1e-2, 5.), (5e-2, 1.), (1e-2, 1.)]:
        weight = nn.Parameter(torch.zeros(2, 3))
        optimiser = Muon([weight], lr, times=times)
        weight.grad = gradients.clone()
        optimiser.step()
        way.append(weight.detach())
    torch.testing.assert_close(way[0], way[1])
    torch.testing.assert_close(way[0], 5 * way[2])


def test_goes_on_from_what_it_kept():
    torch.manual_seed(0)
    gradients = torch.randn(6, 4, 4)

    def go(network, optimiser, steps):
        for k in steps:
            network.weight.grad = gradients[k].clone()
            network.bias.grad = gradients[k, 0].clone()
            optimiser.step()

    straight, stopped = nn.Linear(4, 4), nn.Linear(4, 4)
    stopped.load_state_dict(straight.state_dict())
    whole = Muon(straight.parameters(), 1e-2)
    go(straight, whole, range(6))
    first = Muon(stopped.parameters(), 1e-2)
    go(stopped, first, range(3))
    second = Muon(stopped.parameters(), 1e-2)
    second.load_state_dict(first.state_dict())
    go(stopped, second, range(3, 6))
    assert torch.equal(straight.weight, stopped.weight)
    assert torch.equal(straight.bias, stopped.bias)


def test_closure():
    weight = nn.Parameter(torch.ones(2, 2))
    optimiser = Muon([weight], 1e-2)

    def loss():
        optimiser.zero_grad()
        value = weight.square().sum()
        value.backward()
        return value

    assert optimiser.step(loss).item() == 4
    assert weight.detach().square().sum() < 4


def test_adamw_is_pytorchs():
    assert type(adamw([nn.Parameter(torch.ones(2))], 1e-3)) is torch.optim.AdamW
