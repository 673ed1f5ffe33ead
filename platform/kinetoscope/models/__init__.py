"""Video VAE, diffusion transformer and text encoders.

Shape letters, in names (``video_BCTHW``) and docstrings: ``B`` batch, ``C`` pixel channels,
``T H W`` pixel frames, height, width, ``Z`` latent channels, ``t h w`` latent frames, height,
width, ``L`` video tokens, ``S`` text tokens, ``D`` width, ``A`` heads, ``K`` head dim. ``N`` is
frames folded into the batch. Pixels are floats in [-1, 1].
"""
