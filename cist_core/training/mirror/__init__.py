"""A run directory kept a second time in an object store, so that the run goes on where its disk is not."""
