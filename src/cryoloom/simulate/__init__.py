"""Particles with known truth: molecules on a grid, what each particle is given, images, and the data set on disk."""
