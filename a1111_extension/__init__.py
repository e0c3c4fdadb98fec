"""tome-suite for AUTOMATIC1111 and the Forge family. The web UI imports this package while it loads its scripts."""
