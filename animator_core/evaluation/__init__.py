"""Metrics of generated videos, each with its protocol; one metric per file."""
