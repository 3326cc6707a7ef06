"""Latency of a configuration on a device, with its uncertainty. Importing this imports no runtime."""

from nas.latency.devices import DeviceStatus, check_device, devices
from nas.latency.measurement import Measurement
from nas.latency.service import measure, measure_many

__all__ = ["DeviceStatus", "Measurement", "check_device", "devices", "measure", "measure_many"]
