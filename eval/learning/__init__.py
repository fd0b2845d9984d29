"""From files to a trained artifact, and from an artifact to opinions on files."""
