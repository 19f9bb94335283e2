"""How the keeper of alerts is, for /metrics and /health/ready."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class AlertStatus:
    """`fault`: why alerts are not decided at the moment. `faults`: by alert id, why that one is not. `moment_us`:
    everything recorded up to here is decided. In a cluster one process works; the others have nothing to tell."""

    working: bool = False
    alerts: int = 0
    moment_us: int = 0
    transitions: int = 0
    looks: int = 0
    failures: int = 0
    look_seconds: float = 0.0
    fault: str | None = None
    faults: dict[str, str] = field(default_factory=dict[str, str])

    def looked(self, moment_us: int, transitions: int, seconds: float) -> None:
        """A look has gone well."""
        self.moment_us = moment_us
        self.transitions += transitions
        self.looks += 1
        self.look_seconds += seconds

    def failed(self, error: Exception) -> None:
        """A look has failed; it is tried again."""
        self.failures += 1
        self.fault = f"Alerts are not decided: {getattr(error, 'detail', None) or repr(error)[:200]}"
