"""Batched augmentation: whole batches on their own device, with parameters of each image's own."""
