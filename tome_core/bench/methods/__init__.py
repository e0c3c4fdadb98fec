"""The methods that a benchmark compares."""
