"""What happens, in the order of the papers. Read `flows/coft.py` first."""
