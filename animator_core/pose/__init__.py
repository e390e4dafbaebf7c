"""Poses: keypoints, drawing, extraction and alignment."""
