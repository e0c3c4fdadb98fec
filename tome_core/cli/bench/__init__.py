"""`tome bench`: what merging is worth, measured on the machine at hand."""
