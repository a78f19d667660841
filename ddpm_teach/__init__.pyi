from .bits import (
    bits_per_dim as bits_per_dim,
)
from .captions import (
    caption as caption,
    sayable as sayable,
)
from .data import (
    Batch as Batch,
    Pictures as Pictures,
    Points as Points,
    batches as batches,
    characters as characters,
    image_folder as image_folder,
)
from .drawing import (
    interpolate as interpolate,
    pretrained as pretrained,
    sample as sample,
)
from .editing import (
    back_and_forth as back_and_forth,
    edit as edit,
    inpaint as inpaint,
)
from .evaluation import (
    Estimate as Estimate,
    copies as copies,
    evaluate as evaluate,
    features as features,
    frechet_distance as frechet_distance,
    kernel_distance as kernel_distance,
    label_coverage as label_coverage,
    label_variation as label_variation,
    nearer as nearer,
    nearest as nearest,
    read_labels as read_labels,
)
from .exercises import (
    copy_exercises as copy_exercises,
)
from .fast_sampling import (
    angle_steps as angle_steps,
    ddim as ddim,
    dpm_solver as dpm_solver,
    even_steps as even_steps,
    log_snr_steps as log_snr_steps,
    quadratic_steps as quadratic_steps,
)
from .forward import (
    Mixture as Mixture,
    eps_from_x0 as eps_from_x0,
    posterior as posterior,
    q_sample as q_sample,
    q_step as q_step,
    v_from_x0 as v_from_x0,
    x0_from_eps as x0_from_eps,
    x0_from_v as x0_from_v,
)
from .guidance import (
    guided as guided,
    steered as steered,
)
from .hooks import (
    Checkpoint as Checkpoint,
    Hook as Hook,
    Plan as Plan,
    Precision as Precision,
    Preview as Preview,
    Progress as Progress,
    Tracker as Tracker,
    plan as plan,
)
from .inception import (
    inception_features as inception_features,
)
from .latents import (
    Autoencoder as Autoencoder,
    encoded as encoded,
    reconstruction as reconstruction,
)
from .model_files import (
    load as load,
    save as save,
)
from .objective import (
    DDPM as DDPM,
    Denoiser as Denoiser,
    clip as clip,
    ddpm_loss as ddpm_loss,
    denoising as denoising,
    like_v as like_v,
    min_snr as min_snr,
    prior_kl as prior_kl,
    vlb_terms as vlb_terms,
)
from .paper import (
    results as results,
    run_experiment as run_experiment,
)
from .playground import (
    denoising_panel as denoising_panel,
    noising_panel as noising_panel,
    schedules_panel as schedules_panel,
    training_panel as training_panel,
    words_panel as words_panel,
)
from .plumbing.draws import (
    Draws as Draws,
)
from .plumbing.folders import (
    pictures as pictures,
)
from .plumbing.optimisers import (
    Muon as Muon,
    adamw as adamw,
)
from .plumbing.show import (
    animate as animate,
    figure as figure,
    image_grid as image_grid,
    load_grid as load_grid,
    plot_curves as plot_curves,
    save_grid as save_grid,
    show_chain as show_chain,
    show_figure as show_figure,
    show_images as show_images,
    to_float as to_float,
    to_pil as to_pil,
    to_uint8 as to_uint8,
)
from .published import (
    diffusers_sampler as diffusers_sampler,
    from_diffusers as from_diffusers,
    to_diffusers as to_diffusers,
)
from .sampling import (
    Step as Step,
    ancestral as ancestral,
    best_variance as best_variance,
)
from .schedule import (
    Schedule as Schedule,
    cosine_schedule as cosine_schedule,
    large_variance as large_variance,
    linear_schedule as linear_schedule,
    sigmoid_schedule as sigmoid_schedule,
    small_variance as small_variance,
)
from .text import (
    TextUNet as TextUNet,
    Words as Words,
    captioned as captioned,
)
from .training import (
    Averaging as Averaging,
    Trained as Trained,
    train as train,
    usual as usual,
)
from .unet import (
    Attention as Attention,
    ResBlock as ResBlock,
    UNet as UNet,
    time_embedding as time_embedding,
)
