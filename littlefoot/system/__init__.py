"""Services of the system: atomic files, the processor, processes, Ray, and settings from YAML."""
