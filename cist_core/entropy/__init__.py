"""Entropy of soft labels: one curve a sample, the theory behind it and its envelope."""
