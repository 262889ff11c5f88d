from pathlib import Path
DEFAULT="lite0-wordnet"
def path(name): return Path(__file__).parent/name
