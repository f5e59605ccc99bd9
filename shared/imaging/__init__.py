"""From an image file to pixels, colours and the model's crop.

Imports `errors`, `image_files`, `image_metadata`, `models`.
"""
