"""What ToMe said of the last jobs, for people to read in the tab. Nothing is decided by it."""

from collections import deque
from typing import Final

REPORTS: Final = deque[tuple[str, ...]](maxlen=20)
