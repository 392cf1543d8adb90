"""The machine: files written whole or not at all, processors, processes, settings from YAML."""
