"""Networks by name, weights from files, and the models that ship with the project."""
