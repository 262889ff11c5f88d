"""Files of a workspace: URIs, atomic writes, digests of their inputs, manifests of stages."""
