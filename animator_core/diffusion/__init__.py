"""Sampling: noise levels, windows, the guided denoiser and the Euler loop."""
