"""Conformation models: how each particle's z is inferred."""
