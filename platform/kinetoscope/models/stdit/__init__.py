"""STDiT, Open-Sora 1.2's spatial-temporal diffusion transformer."""
