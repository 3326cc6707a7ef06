"""What follows from all trials: surrogate, offsets between seeds, long runs, ImageNet accuracy."""
