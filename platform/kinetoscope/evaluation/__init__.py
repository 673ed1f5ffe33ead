"""Image metrics, adherence, the loss grid, quality gates, reports, registration of models."""
