"""What is measured on encoders, features and predictions: tensors in, tensors out."""
