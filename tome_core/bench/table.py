"""The one writer of tables: plain columns for a terminal, or markdown that a terminal shows in columns, too."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """Return lines in which the first column is set to the left and the others to the right."""
    least = 3 if markdown else 0  # a rule of markdown has three signs
    widths = [max(least, *(len(line[i]) for line in (head, *rows))) for i in range(len(head))]
    lines = [_cells(line, widths) for line in (head, *rows)]
    if not markdown:
        return "\n".join("  ".join(cells).rstrip() for cells in lines)
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (lines[0], rule, *lines[1:]))


def _cells(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    rest = [f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True)]
    return [f"{line[0]:<{widths[0]}}", *rest]
