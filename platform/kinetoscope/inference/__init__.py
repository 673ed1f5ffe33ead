"""Self-contained model bundles and sampling from them."""
