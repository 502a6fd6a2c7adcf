"""Samples one by one: their table, selections and slices, residuals, dark knowledge, gradients."""
