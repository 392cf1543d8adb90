"""Serve OpenAI's transcription API, live speech and a page. Needs the extra ``serve``."""
