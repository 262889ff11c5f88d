"""Whether bytes would run something when they are loaded."""

import pickletools
import warnings


def is_pickle(data: bytes) -> bool:
    """Say whether bytes are pickle opcodes up to a STOP, or what `torch.save` writes."""
    if data.startswith(b"PK"):
        return True
    try:
        with warnings.catch_warnings(action="ignore"):  # of texts that are no Python
            return any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(data))
    except ValueError:
        return False
