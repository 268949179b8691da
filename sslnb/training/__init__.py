"""One training loop for any objective, and what goes on around it."""
