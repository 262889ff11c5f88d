"""Scripts that lie beside an exported model and classify with it; none of them needs coft."""
