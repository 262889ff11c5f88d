"""The environment of a run: settings, switches against telemetry, files for servers."""
