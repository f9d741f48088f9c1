"""Tasks from a real Python package: bugs put in, noticed by its own tests, validated."""
