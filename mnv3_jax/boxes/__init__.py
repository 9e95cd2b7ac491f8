"""Boxes of single-shot detectors, as pure functions: anchors, codes, matching, losses, suppression and post-processing."""
