"""Logits: sets, files, caches, ensembles, recording; their classes and samples, and whether the accuracy is right."""
