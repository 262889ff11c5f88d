"""What a server counts, in the text format of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "coft_requests", "Requests by status.", ["status"], registry=self.registry
        )
        self.images = Counter(
            "coft_images", "Images, answered or refused.", ["outcome"], registry=self.registry
        )
        self.seconds = Histogram(
            "coft_request_seconds",
            "From a request's head to its answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "coft_batch_images",
            "Images of a forward pass.",
            buckets=_IMAGES,
            registry=self.registry,
        )
        self.forward = Histogram(
            "coft_batch_seconds",
            "Time of a forward pass.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.reloads = Counter(
            "coft_reloads", "New versions, loaded or failed.", ["outcome"], registry=self.registry
        )
        self.taken = Gauge(
            "coft_images_in_flight", "Images taken and not answered yet.", registry=self.registry
        )
        self.model = Info("coft_model", "The version that is served.", registry=self.registry)

    def batch(self, images: int, seconds: float) -> None:
        """Count a forward pass."""
        self.batches.observe(images)
        self.forward.observe(seconds)

    def text(self) -> bytes:
        """Return all of them."""
        return generate_latest(self.registry)
