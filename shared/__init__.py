"""What API and workers share: nouns, settings, a room for each foreign library. Imports no other package."""
