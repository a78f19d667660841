"""Draws: what a release drew, the next must draw too."""
import numpy as np
import pytest
import torch

from ddpm_teach.plumbing.draws import (
    CONDITION, DROPOUT, MIRROR, NOISE, ORDER, Draws, generator, image_noise,
    torch_draws)

X0 = torch.zeros(6, 3, 8, 8)


def training_draws(seed: int, step: int, share=(0, 1), rows: int = 6):
    """As a training step draws."""
    draws = Draws(seed, step, share)
    t = draws.whole(NOISE, rows, 1, 1000)
    return t, draws.normal(NOISE, X0[:rows])


def test_purposes_are_part_of_what_a_seed_means():
    assert (ORDER, MIRROR, NOISE, DROPOUT, CONDITION) == (1, 2, 3, 4, 5)


@pytest.mark.parametrize('seed, step', [(0, 0), (0, 1), (3, 999), (2**40, 12)])
def test_a_step_draws_what_it_drew_before_there_was_a_class(seed, step):
    t, eps = training_draws(seed, step)
    rng = np.random.default_rng([seed, 3, step])
    assert t.dtype == torch.int64
    assert t.tolist() == rng.integers(1, 1001, 6).tolist()
    expected = rng.standard_normal((6, 3, 8, 8), dtype='float32')
    assert torch.equal(eps, torch.from_numpy(expected))


@pytest.mark.parametrize('processes', [2, 3, 6])
def test_processes_together_draw_what_one_draws(processes):
    alone = training_draws(5, 40)
    for process in range(processes):
        share = (process, processes)
        mine = training_draws(5, 40, share, 6 // processes)
        for some, every in zip(mine, alone):
            assert torch.equal(some, every[process::processes])


def test_rows_of_uniform_numbers_are_dealt_out_whole():
    whole = Draws(1, 2).uniform(CONDITION, 6, 3)
    for process in (0, 1):
        mine = Draws(1, 2, (process, 2)).uniform(CONDITION, 3, 3)
        assert torch.equal(mine, whole[process::2])


def test_another_purpose_changes_nothing():
    alone = training_draws(1, 2)
    draws = Draws(1, 2)
    draws.uniform(MIRROR, 6)
    t = draws.whole(NOISE, 6, 1, 1000)
    draws.uniform(CONDITION, 6)
    assert torch.equal(t, alone[0])
    assert torch.equal(draws.normal(NOISE, X0), alone[1])


def test_one_purpose_goes_on():
    draws = Draws(1, 2)
    halves = [draws.uniform(MIRROR, 3), draws.uniform(MIRROR, 3)]
    assert torch.equal(torch.cat(halves), Draws(1, 2).uniform(MIRROR, 6))


def test_noise_is_like_what_it_is_for():
    noise = Draws(1, 2).normal(NOISE, X0.double())
    assert noise.dtype == torch.float64 and noise.shape == X0.shape
    assert torch.equal(noise.float(), Draws(1, 2).normal(NOISE, X0))


@pytest.mark.parametrize('arguments, error', [
    ((-1, 0), ValueError), ((0, -1), ValueError), ((.5, 0), TypeError),
    ((0, 0, (2, 2)), ValueError), ((0, 0, (0, 0)), ValueError),
])
def test_no_draws_without_an_address(arguments, error):
    with pytest.raises(error):
        Draws(*arguments)


def test_a_key_of_other_numbers_is_refused():
    for key in [(-1,), (0, -3), (1.5,), ('seed',)]:
        with pytest.raises((TypeError, ValueError), match='part of the key'):
            generator(*key)


def test_noise_of_a_picture_depends_on_its_number_only():
    batch = image_noise(3, 0, 5, (3, 4, 4))
    alone = [image_noise(3, i, 1, (3, 4, 4)) for i in range(5)]
    for _ in range(2):
        assert torch.equal(batch(), torch.cat([draw() for draw in alone]))


def test_the_first_noise_of_a_picture():
    expected = np.random.default_rng([3, 7]).standard_normal((3, 4, 4), 'float32')
    assert torch.equal(image_noise(3, 7, 1, (3, 4, 4))()[0], torch.from_numpy(expected))


def test_layers_draw_from_the_key_and_leave_no_trace():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with pytest.raises(KeyError):
        with torch_draws(torch.device('cpu'), 1, DROPOUT, 2):
            inside = torch.rand(3)
            raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(int(np.random.default_rng([1, 4, 2]).integers(2**63)))
    assert torch.equal(inside, torch.rand(3))
