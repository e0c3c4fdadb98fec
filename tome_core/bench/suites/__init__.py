"""Prompts in the manner of T2I-CompBench (Huang et al. 2023), made by rule and frozen as files."""

from .suite import SPLITS, SUITES, Case, Prompt, Split, Suite, load_suite, read_prompts, singles

__all__ = ["SPLITS", "SUITES", "Case", "Prompt", "Split", "Suite", "load_suite", "read_prompts", "singles"]
