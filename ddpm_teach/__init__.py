"""Denoising Diffusion Probabilistic Models, built and explained in notebooks.

Names are found when they are first used, so that `import ddpm_teach` is quick and
drawing needs no plotting library. Which they are, and where they live, says
`__init__.pyi`, which editors and type checkers read too.
"""
__version__ = "0.2.0"

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
