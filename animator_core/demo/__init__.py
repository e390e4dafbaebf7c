"""A first run without downloads: a drawn person, a drawn motion and a small model."""
