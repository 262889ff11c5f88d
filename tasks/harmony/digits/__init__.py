"""Ten digits in four modalities: data of the demo, free of recordings. README.md says whence."""
