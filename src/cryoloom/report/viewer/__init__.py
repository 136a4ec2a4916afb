"""The interactive page of a run: latent space to click in, and the map of what was clicked."""
