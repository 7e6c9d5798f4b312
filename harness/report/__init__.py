"""Tell what a run found."""
