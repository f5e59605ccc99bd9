"""From an image's bytes to pixels, EXIF, colors and the model's crop. Imports `errors`, `models`."""
