"""Prompts in the manner of T2I-CompBench (Huang et al. 2023), made by rule and frozen as files."""

from .prompt_file import read_prompts
from .suite import SPLITS, SUITES, Prompt, Split, Suite, load_suite

__all__ = ["SPLITS", "SUITES", "Prompt", "Split", "Suite", "load_suite", "read_prompts"]
