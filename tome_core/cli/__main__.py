"""`python -m tome_core.cli` is `tome`."""

from . import run

if __name__ == "__main__":  # a process that draws for us imports this file, too
    run()
