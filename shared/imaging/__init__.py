"""Reading an image's bytes: pixels, EXIF, colors, renditions, the model's crop. Imports no other room."""
