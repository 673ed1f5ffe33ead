"""From a directory of videos to a clip table."""
