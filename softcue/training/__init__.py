"""Training: jobs, the loop that trains many at once, and all that a run needs around it."""
