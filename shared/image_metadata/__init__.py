"""What is written about an image, and the tags that it is written in. Imports `models`."""
