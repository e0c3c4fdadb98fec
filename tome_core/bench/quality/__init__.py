"""What methods do to pictures, against the untouched ones of the same prompts and noise, in figures by prompt."""
