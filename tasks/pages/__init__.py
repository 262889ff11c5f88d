"""What pages share: one template environment, one look, figures and pictures inside of the file."""
