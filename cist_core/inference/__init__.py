"""From a teacher and data to logits, by name or by file."""
