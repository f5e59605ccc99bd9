"""What an image file is before its pixels are decoded: format, cost. Imports `errors`, `image_metadata`."""
