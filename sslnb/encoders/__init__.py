"""Encoders: images in, features out, every layer with a name."""
