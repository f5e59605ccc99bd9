"""Spans for an OpenTelemetry collector. Imports `errors`, `models`, `urls`, `version`."""
