"""Weight files: which there are, how they are read, checked, converted and fetched."""
