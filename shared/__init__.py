"""What API and workers share: the nouns, the settings, and one room for each foreign library. Imports no other package."""
