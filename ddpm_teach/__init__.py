"""Denoising Diffusion Probabilistic Models, built and explained in notebooks.

Names are found when they are first used, so that `import ddpm_teach` is quick and drawing needs no plotting library.
"""
__version__ = "0.1.0"

from importlib import import_module as _import_module

_MODULES = {
    'plumbing.show': 'animate figure image_grid load_grid plot_curves save_grid show_chain show_figure show_images to_float to_pil to_uint8',
    'data': 'Pictures batches characters image_folder pictures',
    'schedule': 'Schedule cosine_schedule linear_schedule sigmoid_schedule',
    'forward': 'Mixture eps_from_x0 posterior q_sample q_step v_from_x0 x0_from_eps x0_from_v',
    'objective': 'DDPM ddpm_loss like_v min_snr prior_kl vlb_terms',
    'unet': 'Attention ResBlock UNet time_embedding',
    'training': 'Trained load save train',
    'sampling': 'Step ancestral interpolate pretrained sample',
    'evaluation': 'Estimate bits_per_dim copies evaluate features frechet_distance inception_features kernel_distance label_coverage label_variation nearer nearest read_labels',
    'fast_sampling': 'angle_steps ddim dpm_solver even_steps log_snr_steps quadratic_steps',
    'paper': 'results run_experiment',
    'playground': 'denoising noising schedules',
    'published': 'diffusers_sampler from_diffusers to_diffusers',
    'exercises': 'copy_exercises',
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(_import_module(f'.{_HOME[name]}', __name__), name)


def __dir__():
    return sorted([*globals(), *__all__])
