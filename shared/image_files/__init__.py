"""What an image file is, before its pixels are decoded: format, kind, cost. Imports `errors`, `image_metadata`."""
