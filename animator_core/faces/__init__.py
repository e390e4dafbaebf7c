"""Faces: finding and embedding them, cutting them out, refining them, measuring likeness."""
