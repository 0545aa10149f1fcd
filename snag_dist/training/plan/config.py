"""What a person tells of a graph that has no store yet, and of the machines a run shall go to."""

from pydantic import Field

from snag_dist.config import Config


class PlanConfig(Config):
    """Facts for planning; a store and the machine itself are asked for what is left out."""

    num_entities: int | None = Field(default=None, ge=1)
    """E, where there is no store yet."""
    num_relations: int = Field(default=1, ge=1)
    """R, where there is no store yet."""
    num_triples: int | None = Field(default=None, ge=1)
    """T of the training split, where there is no store yet."""
    num_links: int | None = Field(default=None, ge=1)
    """Links between two graphs, where there is no store yet."""
    widths: dict[str, int] = Field(default_factory=dict)
    """Columns of the raw vectors by modality, where they are not extracted yet."""
    num_hosts: int = Field(default=1, ge=1)
    """Machines that the workers are spread over evenly."""
    host_bytes: int | None = Field(default=None, ge=1)
    """Memory of one of them; unset takes this machine's, or the smallest of the Ray cluster."""
    device_bytes: int | None = Field(default=None, ge=1)
    """Memory of one GPU; unset asks the one of this machine, and leaves the check out where there is none."""
    network_bytes_per_second: float = Field(default=1.25e9, gt=0)
    """Between two hosts; 10 Gbit/s."""
    calibration_steps: int = Field(default=5, ge=1)
    """Steps that are timed."""
    price_per_hour: float | None = Field(default=None, ge=0)
    """Of one worker, in any currency: of its machine, by the workers on it. Unset prints the hours of a run alone."""
