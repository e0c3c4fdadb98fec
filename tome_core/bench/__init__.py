"""Measuring, behind `tome bench`: methods compared on the same prompts and noise, judged, and timed in turn."""
