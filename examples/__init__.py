"""Programs that use image-search; none of them is installed."""
