"""What a recognition gives: words, segments, subtitles, and the formats they are written in."""
