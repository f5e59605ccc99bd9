"""What a camera or an editor wrote about an image: which side is up, when and where. Imports `models`."""
