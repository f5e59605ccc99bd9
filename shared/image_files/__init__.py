"""What an image file says before its pixels are decoded: format, cost, EXIF. Imports `errors`, `models`."""
