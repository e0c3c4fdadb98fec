"""What a call of a denoiser takes by each method, in turn in one process."""
