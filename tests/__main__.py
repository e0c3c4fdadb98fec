"""Check the whole tree: `python tests`. Arguments go to pytest, as in `python tests -k merging`.

Format, lint, types and tests all run, also after one has failed; the exit code is 1 if any did. Tests run in one
process a core, each with one thread: models this small are slower with several.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKS = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["pyright", "--pythonpath", sys.executable],
    "tests": ["pytest", "-n", "auto", "--dist", "worksteal"],  # last, so that its closing line stays in sight
}


def main() -> int:
    failed, one_thread = [], {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, command in CHECKS.items():
        arguments = sys.argv[1:] if name == "tests" else []
        print(f"== {name}: {' '.join([*command, *arguments])}", flush=True)
        if subprocess.run([sys.executable, "-m", *command, *arguments], cwd=ROOT, env=one_thread).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
