"""What a frozen encoder gives, and what linear and nearest-neighbour classifiers read out of it."""
