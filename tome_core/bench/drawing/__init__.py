"""Many pictures by one method: what draws them, how they are made, and how they are kept."""
