"""Where it runs: settings from the environment, switches against telemetry, files for servers."""
