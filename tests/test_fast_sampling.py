"""The fast samplers beside those of diffusers, on the same predictions and the same
noise."""

import pytest
import torch

from ddpm_teach import DDPM, cosine_schedule
from ddpm_teach.fast_sampling import ddim, dpm_solver, even_steps

diffusers = pytest.importorskip('diffusers')
SCHEDULE = cosine_schedule(200)


def belief(x, t):
    """A made-up x0_hat within [-1, 1], which depends on picture and time."""
    return torch.tanh(0.7 * x + torch.cos(t.float() / 40).reshape(-1, 1, 1, 1))


def by_diffusers(scheduler, x, steps, **options):
    scheduler.set_timesteps(steps)
    assert [t + 1 for t in scheduler.timesteps.tolist()] + [0] == even_steps(
        SCHEDULE, 200, steps
    )
    for t in scheduler.timesteps:
        x = scheduler.step(belief(x, t[None]), t, x, **options).prev_sample
    return x


def by_us(sampler, x, **options):
    *_, last = sampler(DDPM(belief, SCHEDULE, 'x0'), x, **options)
    return last.x


@pytest.mark.parametrize('steps', [4, 20, 100, 200])
@pytest.mark.parametrize('eta', [0.0, 0.5, 1.0])
def test_ddim(steps, eta):
    scheduler = diffusers.DDIMScheduler(
        200,
        trained_betas=SCHEDULE.betas.numpy(),
        prediction_type='sample',
        timestep_spacing='trailing',
    )
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = by_diffusers(
        scheduler,
        x,
        steps,
        eta=eta,
        use_clipped_model_output=True,
        generator=torch.Generator().manual_seed(1),
    )
    rng = torch.Generator().manual_seed(1)
    ours = by_us(
        ddim, x, steps=steps, eta=eta, draw=lambda: torch.randn(x.shape, generator=rng)
    )
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize('steps', [4, 20, 100])
@pytest.mark.parametrize('eta', [0.0, 1.0])
def test_dpm_solver(steps, eta):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        200,
        trained_betas=SCHEDULE.betas.numpy(),
        prediction_type='sample',
        timestep_spacing='trailing',
        algorithm_type='sde-dpmsolver++' if eta else 'dpmsolver++',
        solver_order=2,
        solver_type='midpoint',
        final_sigmas_type='zero',
    )
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = by_diffusers(
        scheduler,
        x,
        steps,
        **(dict(generator=torch.Generator().manual_seed(1)) if eta else {}),
    )
    rng = torch.Generator().manual_seed(1)
    ours = by_us(
        dpm_solver,
        x,
        steps=steps,
        eta=eta,
        grid=even_steps,
        draw=lambda: torch.randn(x.shape, generator=rng),
    )
    assert (ours - theirs).abs().max() < 1e-5
