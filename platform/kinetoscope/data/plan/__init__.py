"""Which samples form each optimizer step: a pure function of clips, config, seed and epoch."""
