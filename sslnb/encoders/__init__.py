"""Encoders: images in, features out, every layer with a name."""

from sslnb.encoders.encoder import Encoder
from sslnb.encoders.load import load_encoder, save_encoder
from sslnb.encoders.resnet import resnet, untrained
from sslnb.encoders.wrapped import Wrapped

__all__ = ["Encoder", "Wrapped", "load_encoder", "resnet", "save_encoder", "untrained"]
