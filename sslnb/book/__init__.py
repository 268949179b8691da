"""The book: notebooks executed, sweeps, the site, and its own pages."""
