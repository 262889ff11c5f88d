"""An archive of coft and what it needs, for machines without a package index (`make bundle`)."""
