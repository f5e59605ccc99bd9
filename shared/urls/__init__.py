"""URLs as text: which parts of one may be kept and shown, and what an origin is. Imports `validation`."""
