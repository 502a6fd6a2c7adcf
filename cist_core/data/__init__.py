"""Labelled images: the bundled set, downloads, and whatever people have on disk."""
