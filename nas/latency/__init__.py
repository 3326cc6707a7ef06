"""Latency of a configuration on a device, with its uncertainty."""

from nas.latency.measurement import Measurement
from nas.latency.onnxruntime_cpu import check_device, measure

__all__ = ["Measurement", "check_device", "measure"]
