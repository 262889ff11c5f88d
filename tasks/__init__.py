"""How a step runs: a Prefect task outside, Ray inside, results in files."""
