"""Composite tokens and end tokens, and which rows the tokens of a group have; no host is known here."""
